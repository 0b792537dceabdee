"""All there is of a session: a record that a checkpoint holds whole, and that a page shows."""

from __future__ import annotations

from dataclasses import dataclass

from edge.trainers.interface import Arrays, State
from edge.training.task import Score
from wire.adapter import Adapter

MOST_LOSSES = 1024


@dataclass(frozen=True)
class Loss:
    """The mean loss of a step, counted from 1."""

    step: int
    loss: float


@dataclass(frozen=True)
class Look:
    """A look at the rows kept back, after so many steps."""

    step: int
    score: Score


@dataclass(frozen=True)
class Undone:
    """A step that was undone, the share of the rate from then on, and why."""

    step: int
    rate: float
    reason: str


def longer(losses: tuple[Loss, ...], new: Loss) -> tuple[Loss, ...]:
    """With one more; every second inner one goes where they are more than `MOST_LOSSES`.

    >>> kept = tuple(Loss(i, 0.0) for i in range(MOST_LOSSES))
    >>> shorter = longer(kept, Loss(MOST_LOSSES, 1.0))
    >>> len(shorter) < MOST_LOSSES, shorter[0].step, shorter[-1].step == MOST_LOSSES
    (True, 0, True)
    """
    kept = (*losses, new)
    return kept if len(kept) <= MOST_LOSSES else (kept[0], *kept[1:-1:2], kept[-1])


@dataclass(frozen=True, eq=False)
class Course:
    """What a run decided before its first step; a run that goes on does not decide again.

    Attributes:
        trainer: that steps.
        tier: what is trained, in words.
        steps: at most; None: as many as were asked for.
        directions: of forward-only trainers, for each step; 0: none.
        micro_batch: rows of a graph's run; None: what the bundle says.
        adapter: where it starts, with a head.
    """

    trainer: str
    tier: str
    steps: int | None
    directions: int
    micro_batch: int | None
    adapter: Adapter


@dataclass(frozen=True, eq=False)
class Session:
    """Where training stands.

    Attributes:
        arrays: that learn.
        state: the trainer's.
        at: steps taken or passed over.
        before: arrays and state before the last step; None after one that was undone.
        best: arrays with the least loss on the rows kept back; None where none were kept.
        stale: looks since then.
        rate: share of the trainer's rate, less than 1 after steps that were undone.
        fresh_undone: steps undone since the last that was not.
        over: why it is; empty while it is not.
        course: what was decided before it began; None where nothing was.
        seconds: spent in steps.
    """

    arrays: Arrays
    state: State
    at: int = 0
    before: tuple[Arrays, State] | None = None
    best: Arrays | None = None
    stale: int = 0
    rate: float = 1.0
    fresh_undone: int = 0
    over: str = ""
    course: Course | None = None
    seconds: float = 0.0
    losses: tuple[Loss, ...] = ()
    looks: tuple[Look, ...] = ()
    undone: tuple[Undone, ...] = ()
