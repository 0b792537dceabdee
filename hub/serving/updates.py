"""The way of an update in: begin, chunks, commit, one door. Who counts says what it comes to (hub.serving.counting)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from console.errors import BadData
from hub.making.contributions import starts
from hub.making.model import Model
from hub.masking.making import layout_of_round
from hub.rounds.halves import half_of
from hub.rounds.refusal import puts_off
from hub.rounds.seating import held_by
from hub.rounds.state import Round
from hub.serving.asked import Asked, asked_of
from hub.serving.check import check
from hub.serving.counting import Counts, seat_for, spoils
from hub.serving.inbox import Inbox
from hub.serving.post import Post
from hub.serving.turns import Turns
from hub.store.partials import Key, Partial
from hub.store.registry import Home
from wire import messages as m
from wire.chunks import indexes_of

INDEXES_AT_ONCE, RANGES_AT_ONCE = 1024, 256
FOLDER = "partial"
TAKEN_KEPT = 64  # a commit follows its last piece closely


class Rounds(Protocol):
    """The open rounds of a model, as who takes updates knows them."""

    model: Model
    rank: int

    @property
    def open(self) -> Mapping[int, Round]:
        """By number."""


class Updates:
    """Takes the updates of one model's devices."""

    def __init__(self, home: Home, post: Post, rounds: Rounds, counts: Counts, inbox: Inbox) -> None:
        self.home, self.post, self.rounds, self.counts, self.inbox = home, post, rounds, counts, inbox
        self.turns = Turns()
        self.awaits: Callable[[Key], bool] = lambda key: key in self.inbox.kept
        self._taken: dict[Key, None] = {}  # those whose last piece came before the commit behind it

    def begin(self, begin: m.Begin) -> None:
        """An update is announced: refused before its bytes are taken, or awaited."""
        self._taken.pop((begin.sender.device, begin.update), None)
        if self.counts.answered(begin):
            return
        why = self.counts.refusal(begin)
        if why:
            self._refuse(begin, why)
        else:
            self.inbox.begin(begin)

    def chunk(self, device: str, chunk: m.Chunk) -> None:
        """A piece; the last one delivers the update if its commit came before."""
        self.turns.heard((device, chunk.blob), self.inbox.clock())
        if self.inbox.add(device, chunk):
            self._deliver(device, chunk.blob)
            self._taken[device, chunk.blob] = None
            self._taken = dict(list(self._taken.items())[-TAKEN_KEPT:])
            self.go_on()

    def commit(self, commit: m.Commit) -> None:
        """All was sent, or is announced: deliver it, or say what is missing as soon as it is its turn.

        A commit whose beginning is unknown is always asked for it, even where its bytes have an answer: the same
        bytes may belong to another job by now, and only the beginning names the job. But the commit behind pieces
        that were asked for comes when all is done: the commit that announced them had been here before.
        """
        device = commit.sender.device
        found = self.inbox.commit(device, commit.update)
        if found is not None and found.whole:
            self._deliver(device, commit.update)
        elif found is not None or (device, commit.update) not in self._taken:
            self._ask(device, commit.update, found)
        self.go_on()

    def tick(self) -> None:
        """Forget what belongs to rounds that are over, and ask those who come next."""
        self.inbox.keep_rounds(set(self.rounds.open))
        self.go_on()

    def go_on(self) -> None:
        """Ask those whose turn it is now, where their pieces can be kept."""
        if self.inbox.is_full:
            return
        for device, update in self.turns.following(self.awaits, self.inbox.clock()):
            found = self.inbox.store.get(device, update)
            if found is not None and not found.whole:
                self._say_missing(device, update, found)

    def _ask(self, device: str, update: str, found: Partial | None) -> None:
        """Say what is missing; nothing while it could not be kept: the device asks again, with growing pauses."""
        if self.inbox.is_full:
            return
        if found is None:
            self.post.send(device, m.Missing(device, update, begin=True))
            return
        size = found.present.count(False) * found.begin.chunk_bytes
        if not self.turns.may_send((device, update), size, self.inbox.clock()):
            return
        self._say_missing(device, update, found)

    def _say_missing(self, device: str, update: str, found: Partial) -> None:
        ranges = found.missing[:RANGES_AT_ONCE]
        indexes = indexes_of(ranges, len(found.present))[:INDEXES_AT_ONCE]
        self.post.send(device, m.Missing(device, update, indexes, ranges=ranges))

    def _deliver(self, device: str, update: str) -> None:
        """What is whole goes into the journal, by one worker of the hub at a time."""
        with self.inbox.store.alone(device, update) as alone:
            found = self.inbox.store.get(device, update) if alone else None
            if found is not None:
                self._take(found.begin)

    def _take(self, begin: m.Begin) -> None:
        device = begin.sender.device
        if self.counts.answered(begin):  # it was counted, but the hub was not told so
            self.inbox.drop(device, begin.update)
            return
        data = self.inbox.store.join(device, begin.update)
        if data is None:
            self._ask(device, begin.update, self.inbox.store.get(device, begin.update))
            return
        why, state = self.counts.refusal(begin), self.rounds.open.get(begin.round)
        if why:
            self._refuse(begin, why)
        elif state is None or puts_off(state):
            return  # as if the commit had been lost: the device sends it again
        elif fault := self._fault(data, begin, state):
            self.counts.reject(begin, fault, state.phase == "gating")
            self.inbox.drop(device, begin.update)
        else:
            self.home.blobs.put(data)
            del data  # it may be the last of its round, and then a version is made while this waits
            self.counts.accept(begin, state)
            self.inbox.drop(device, begin.update)

    def _refuse(self, begin: m.Begin, why: str) -> None:
        if spoils(self.rounds.open.get(begin.round), begin):
            self.counts.spoil(begin, why)
        else:
            self.counts.refuse(begin, why)
        self.inbox.drop(begin.sender.device, begin.update)

    def _fault(self, data: bytes, begin: m.Begin, state: Round) -> str:
        """What is wrong with the content; empty if nothing is."""
        if state.secure is not None:
            wanted = layout_of_round(self.rounds.model, state, state.secure).bytes
            return "" if len(data) == wanted else f"expected {wanted} bytes under masks, found {len(data)}"
        try:
            check(data, begin, self.rounds.model, self._asked(begin, state))
        except BadData as error:
            return str(error)
        return ""

    def _asked(self, begin: m.Begin, state: Round) -> Asked:
        """What a device was asked for: of a split job one half, of a board with few slots those."""
        seat = seat_for(state, begin)
        slots = None if seat is None else held_by(self.home, self.rounds.model, state, seat.device, begin.kind)
        return asked_of(state, self.rounds.rank, starts(self.home), slots, half_of(seat, begin.kind))
