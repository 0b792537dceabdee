"""A deployment as a table without I/O: a version is tried on a few devices before all of them serve it.

    phase      event                                            next         actions
    ---------  -----------------------------------------------  -----------  --------------------------
    spreading  Opened                                           spreading    Offer to every board
    spreading  Serves: some do not yet                          spreading    -
    spreading  Serves: the last of them; Tick at its deadline,
                 some do                                        trying       Try
                 none does                                      rolled back  Release what is in use
    trying     Judged, not worse, promoted by itself            promoted     Release the version
    trying     Judged: not worse, or nobody could judge,
                 promoted by hand                               waiting      -
    trying     Judged: worse, or nobody could judge             rolled back  Release what is in use
    open       Promote (by hand)                                promoted     Release the version
    open       Back (by hand)                                   rolled back  Release what is in use
    open       Superseded (something else was released)         superseded   -
    any        anything else                                    as it was    -

What is in use is released again to all, with a higher sequence: for those who never served the trial this changes
nothing, and a board that was away during the trial hears of its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hub.rounds.state import Release, Tick

Phase = Literal["spreading", "trying", "waiting", "promoted", "rolled back", "superseded"]
OPEN: tuple[Phase, ...] = ("spreading", "trying", "waiting")


@dataclass(frozen=True)
class Deployment:
    """Everything that a deployment is; it is kept as JSON in the ledger and read back after a kill."""

    number: int
    version: str  # digest of what is tried
    against: str  # digest of what it is compared with
    in_use: str  # digest of what is released, and stays if the trial fails
    group: str  # what the boards were called when it was opened
    boards: tuple[str, ...]
    promote: Literal["auto", "manual"]
    sequence: int  # of the trial, in the one order of all releases
    deadline_s: float
    deadline_at_s: float
    serving: tuple[str, ...] = ()  # the boards that said that they serve it
    round: int = 0  # that judges it; 0: none yet
    phase: Phase = "spreading"
    sentence: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come."""
        return self.phase in OPEN


# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True)
class Opened:
    """The deployment begins."""


@dataclass(frozen=True)
class Serves:
    """A board said that it serves the version of the trial."""

    board: str


@dataclass(frozen=True)
class Judged:
    """The round that judges it is over, and the gate has spoken; `judged` is false where nobody could judge."""

    released: bool
    sentence: str
    judged: bool = True


@dataclass(frozen=True)
class Promote:
    """Somebody decided for it."""


@dataclass(frozen=True)
class Back:
    """Somebody decided against it."""


@dataclass(frozen=True)
class Superseded:
    """Another version was released to all meanwhile."""

    sentence: str


# ----------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Offer:
    """Tell a board to serve the version."""

    board: str


@dataclass(frozen=True)
class Try:
    """Open the round that compares the version with what is in use, on the boards that serve it."""


Action = Offer | Try | Release
Step = tuple[Deployment, tuple[Action, ...]]


def step(state: Deployment, event: object) -> Step:
    """The next state and what is to be done; an event that does not belong here changes nothing."""
    handler = TABLE.get((state.phase, type(event)))
    return handler(state, event) if handler is not None else (state, ())


def resume(state: Deployment) -> tuple[Action, ...]:
    """What is outstanding, for a hub that was killed: doing it twice does no harm."""
    return tuple(Offer(board) for board in state.boards if board not in state.serving) if state.is_open else ()


def _opened(state: Deployment, event: Opened) -> Step:
    return state, resume(state)


def _serves(state: Deployment, event: Serves) -> Step:
    if event.board not in state.boards or event.board in state.serving:
        return state, ()
    return _settle(replace(state, serving=tuple(sorted((*state.serving, event.board)))), late=False)


def _passes(state: Deployment, event: Tick) -> Step:
    return _settle(state, late=event.now_s >= state.deadline_at_s)


def _settle(state: Deployment, late: bool) -> Step:
    """Go on when all boards serve it, or at the deadline with those that do."""
    absent = [board for board in state.boards if board not in state.serving]
    if absent and not late:
        return state, ()
    if not state.serving:
        return _end(state, "rolled back", f"none of {len(state.boards)} boards came to serve it", state.in_use)
    said = f"{len(state.serving)} of {len(state.boards)} boards serve it"
    missing = f" (not {', '.join(absent)})" if absent else ""
    return replace(state, phase="trying", sentence=said + missing), (Try(),)


def _judged(state: Deployment, event: Judged) -> Step:
    by_hand = state.promote == "manual"
    if not event.released and not (by_hand and not event.judged):
        return _end(state, "rolled back", event.sentence, state.in_use)
    if not by_hand:
        return _end(state, "promoted", event.sentence, state.version)
    return replace(state, phase="waiting", sentence=f"{state.sentence}; {event.sentence}"), ()


def _promote(state: Deployment, event: Promote) -> Step:
    return _end(state, "promoted", "promoted by hand", state.version)


def _back(state: Deployment, event: Back) -> Step:
    return _end(state, "rolled back", "rolled back by hand", state.in_use)


def _superseded(state: Deployment, event: Superseded) -> Step:
    return replace(state, phase="superseded", sentence="; ".join(filter(None, (state.sentence, event.sentence)))), ()


def _end(state: Deployment, phase: Phase, sentence: str, version: str) -> Step:
    said = "; ".join(filter(None, (state.sentence, sentence)))
    return replace(state, phase=phase, sentence=said), (Release(version),)


Handler = Callable[[Deployment, Any], Step]

TABLE: dict[tuple[str, type], Handler] = {
    ("spreading", Opened): _opened,
    ("spreading", Serves): _serves,
    ("spreading", Tick): _passes,
    ("trying", Judged): _judged,
    **{(phase, Promote): _promote for phase in OPEN},
    **{(phase, Back): _back for phase in OPEN},
    **{(phase, Superseded): _superseded for phase in OPEN},
}
