"""What a worker knows of rounds, and how it hands on to the hub what it took in: through the ledger.

A worker writes no journal and gives no receipt but one that is in the journal already. What it took in is a row of
`arrivals`; the hub, which alone counts, answers it and deletes the row in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hub.making import versions
from hub.making.model import Model
from hub.rounds.state import Round
from hub.serving.counting import refusal_of, say_again
from hub.serving.post import Post
from hub.store.registry import Home
from hub.store.writes import put_arrival
from wire import messages as m

FRESH_S = 0.5  # so old may be what a worker knows of rounds; the hub looks again when it counts


class KnownRounds:
    """The open rounds of a model, as the ledger had them a moment ago."""

    def __init__(self, home: Home, model: Model, clock: Callable[[], float]) -> None:
        self.home, self.model, self._clock = home, model, clock
        self.rank = versions.read_made(home.ledger.versions(model.id)[0]).version.rank
        self._known: dict[int, Round] = {}
        self._at_s = float("-inf")

    @property
    def open(self) -> Mapping[int, Round]:
        """By number."""
        if self._clock() - self._at_s >= FRESH_S:
            self.look()
        return self._known

    def look(self) -> None:
        """Read them anew."""
        self._known = {state.number: state for state in self.home.ledger.open_rounds(self.model.id)}
        self._at_s = self._clock()


class Handing:
    """Who answers for updates at a worker: the ledger what is answered already, the hub all else."""

    def __init__(self, home: Home, post: Post, rounds: KnownRounds) -> None:
        self.home, self.post, self.rounds, self.taken = home, post, rounds, 0

    def answered(self, begin: m.Begin) -> bool:
        """Whether the update has its answer, which is said again, or waits for it with the hub."""
        of = (begin.sender.device, begin.update, begin.job)
        known = self.home.ledger.receipt(*of)
        if known is not None:
            say_again(self.post, begin, known)
        return known is not None or self.home.ledger.arrival(*of) is not None

    def refusal(self, begin: m.Begin) -> str:
        """Why it cannot count, whatever it holds; what an old look refuses is looked at again."""
        return self._refusal(begin) and self._refusal(begin, anew=True)

    def accept(self, begin: m.Begin, state: Round) -> None:
        """Its blob is there, its content is right: the hub shall count it."""
        self._hand_on(begin, whole=True)

    def refuse(self, begin: m.Begin, why: str) -> None:
        """The hub shall refuse it."""
        self._hand_on(begin, whole=False)

    def spoil(self, begin: m.Begin, why: str) -> None:
        """The hub shall refuse it, and see by itself that nobody need wait for it."""
        self.refuse(begin, why)

    def reject(self, begin: m.Begin, why: str, gate: bool) -> None:
        """The hub shall refuse it for its content."""
        self._hand_on(begin, whole=True, fault=why)

    def _refusal(self, begin: m.Begin, *, anew: bool = False) -> str:
        if anew:
            self.rounds.look()
        state = self.rounds.open.get(begin.round) or self.home.ledger.round(begin.round)
        return refusal_of(self.home, self.rounds.model.id, state, begin)

    def _hand_on(self, begin: m.Begin, *, whole: bool, fault: str = "") -> None:
        row = {
            "model": self.rounds.model.id,
            "device": begin.sender.device,
            "digest": begin.update,
            "job": begin.job,
            "body": m.encode(begin),
            "whole": whole,
            "fault": fault,
        }
        with self.home.ledger.transaction() as tx:
            put_arrival(tx, row)
        self.taken += whole
