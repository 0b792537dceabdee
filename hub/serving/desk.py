"""What a hub has for one of its models: its voice, its rounds, its updates; and answers to what devices say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.errors import BadData
from hub.deployments.rollout import Rollout
from hub.making import versions
from hub.making.model import Model
from hub.masking import desk as masking
from hub.rounds.conductor import Conductor
from hub.rounds.halves import seat_of_tail
from hub.rounds.names import job_id
from hub.rounds.refusal import is_asked, seat_of
from hub.rounds.state import Gone
from hub.serving.counting import Counting
from hub.serving.inbox import Inbox
from hub.serving.post import Post
from hub.serving.updates import FOLDER, Updates
from hub.store.ledger import Row
from hub.store.partial_files import FilePartials
from hub.store.partials import SmallApart
from hub.store.registry import Home
from wire import messages as m
from wire.transport import Transport


class Desk:
    """One model of a hub."""

    def __init__(self, home: Home, model: Model, transport: Transport, clock: Callable[[], float]) -> None:
        self.home, self.model, self.clock = home, model, clock
        self.post = Post(transport, home.key, home.config.fleet, model.id)
        self.conductor = Conductor(home, model, self.post, clock)
        self.rollout = Rollout(self.conductor)
        self.counting = Counting(home, self.post, self.conductor, clock)
        inbox = Inbox(SmallApart(FilePartials(home.folder / FOLDER / model.id)), clock)
        self.updates = Updates(home, self.post, self.conductor, self.counting, inbox)
        self.blobs: set[str] = set()  # what devices may fetch
        self._on: dict[Any, Callable[[Row, Any], None]] = {
            m.Hello: self._hello,
            m.Begin: lambda device, message: self.updates.begin(message),
            m.Commit: lambda device, message: self.updates.commit(message),
            m.Fetch: self._fetch,
            m.Failed: self._failed,
        }
        self._masks = (m.MaskKeys, m.MaskShares, m.MaskAgreed, m.MaskReveal)

    def recall(self) -> None:
        """Go on from what the ledger says, and say again what may not have been said; ticks do what is outstanding."""
        self.conductor.recall()
        self.rollout.recall()
        self.conductor.announce_tip()
        self.conductor.announce_release()
        self.rollout.greet()

    def take(self, device: Row, message: Any, envelope: bytes) -> None:
        """Answer what a device said; its signature was checked."""
        if isinstance(message, self._masks):
            self._masked(message, envelope)
        if type(message) in self._on:
            self._on[type(message)](device, message)

    def _hello(self, device: Row, message: m.Hello) -> None:
        self.rollout.greet_device(device["name"], message.serves, message.released)
        self.conductor.ask_device(device["name"])

    def _fetch(self, device: Row, message: m.Fetch) -> None:
        self.post.send_blob(device["name"], message.blob, self._public(message.blob), message.indexes)

    def _public(self, name: str) -> Callable[[], bytes]:
        """What reads a version, or a blob that a version names; what devices sent is nobody's business."""
        row = self.home.ledger.version(name)
        if row is not None:
            body = bytes(row["body"])
            return lambda: body
        if name not in self.blobs:
            for row in self.home.ledger.versions(self.model.id):
                self.blobs |= versions.blob_names(versions.read_made(row).version)
        if name not in self.blobs:
            raise BadData(f"expected the name of a version or of a blob of one, found {name[:12]}; it was ignored")
        return lambda: self.home.blobs.get(name)

    def _masked(self, message: m.MaskKeys | m.MaskShares | m.MaskAgreed | m.MaskReveal, envelope: bytes) -> None:
        """Something of a sum under masks; of a round that is over, nobody needs it."""
        row = self.home.ledger.job(message.job)
        state = self.conductor.open.get(row["round"]) if row is not None else None
        if state is not None:
            event, kept = masking.entry(state, message, envelope, self.clock())
            self.conductor.perform(state.number, self.conductor.record(state.number, event, masking.write(kept)))

    def _failed(self, device: Row, message: m.Failed) -> None:
        row = self.home.ledger.job(message.job)
        if row is None or row["device"] != device["name"]:
            return
        state = self.conductor.open.get(row["round"])
        if state is None:
            return
        seat = seat_of_tail(state, message.job, device["name"])
        if seat is not None:
            if message.peer != seat.device:
                self._lose(state.number, device["name"], message, seat.device)
            return  # a board at fault says so itself; else the tail's job goes out again, and it says what it knows
        own = seat_of(state.seats, device["name"])
        if message.peer and own is not None and own.tail == message.peer and is_asked(state, message.job, own.device):
            self._lose(state.number, own.tail, message, own.device)
        elif is_asked(state, message.job, device["name"]):
            gate = message.job == job_id(row["round"], "gate", device["name"])
            self.conductor.tell(row["round"], Gone(device["name"], message.reason[:500], gate))

    def _lose(self, number: int, tail: str, message: m.Failed, board: str) -> None:
        """A board cannot go on with its tail, as one of the two says."""
        self.conductor.lose_tail(tail, f"{message.sender.device} says: {message.reason}"[:500], number, board)
