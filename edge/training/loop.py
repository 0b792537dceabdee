"""The steps of a session: what a trainer makes of a task's rows, until it gets no better.

A step whose loss is not finite is undone: the session goes back to the arrays before the last step, which had a
finite loss, and goes on at half the rate with the next rows. On rows kept back it stops early (Prechelt, "Early
stopping - but when?", 1998, criterion UP: no better for so many looks), and the best arrays are what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from console.errors import BadData
from edge.trainers.interface import Arrays, NotFinite, Trainer
from edge.training.history import Look, Loss, Session, Undone, longer
from edge.training.order import after
from edge.training.task import Score, Task
from wire.record import at_least

RATE_CUT = 0.5
MOST_UNDONE = 8  # in a row; then the rate is not what is wrong
Schedule = Literal["constant", "linear"]


@dataclass(frozen=True)
class Settings:
    """How long, on how much at once, and when to look.

    Attributes:
        steps: at most.
        batch: rows of a step.
        seed: of the order of the rows.
        look_every: steps between looks at the rows kept back.
        patience: looks without a lower loss after which it stops; 0: never.
        stop_loss: a step's loss below which it stops.
        schedule: of the rate, see `share_of`.
        warmup: steps over which the rate rises.
    """

    steps: int = field(default=100, metadata=at_least(1, 1_000_000))
    batch: int = field(default=16, metadata=at_least(1, 65_536))
    seed: int = field(default=0, metadata=at_least(0))
    look_every: int = field(default=20, metadata=at_least(1))
    patience: int = field(default=3, metadata=at_least(0))
    stop_loss: float = field(default=0.0, metadata=at_least(0))
    schedule: Schedule = "constant"
    warmup: int = field(default=0, metadata=at_least(0))


def begin(task: Task, trainer: Trainer) -> Session:
    """A session before its first step; the rows kept back are looked at once."""
    arrays = task.start()
    session = Session(arrays, trainer.begin(arrays))
    return looked(session, task.score(arrays))


def share_of(settings: Settings, at: int) -> float:
    """The share of the rate in the step after `at` others: of the step alone, so that a run that goes on has the same.

    It rises over `warmup` steps, then is constant, or falls in a line that would reach 0 after the last step
    (as in Devlin et al., arXiv 1810.04805, appendix A.2).

    >>> line = Settings(steps=6, schedule="linear", warmup=2)
    >>> [share_of(line, at) for at in range(6)], share_of(Settings(steps=6), 5)
    ([0.5, 1.0, 1.0, 0.75, 0.5, 0.25], 1.0)
    """
    if at < settings.warmup:
        return (at + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    return max(0.0, (settings.steps - at) / max(1, settings.steps - settings.warmup))


def run(
    task: Task,
    trainer: Trainer,
    settings: Settings,
    session: Session,
    keep: Callable[[Session], None] = lambda session: None,
) -> Session:
    """Step until it is over.

    Args:
        task: what to learn.
        trainer: how.
        settings: how long.
        session: where to go on: `begin`, or what a checkpoint held.
        keep: told the session after every step, to show it and to save it.

    Raises:
        BadData: no step had a finite loss; a row cannot be read.
    """
    order = after(len(task), settings.batch, settings.seed, session.at)
    while not session.over:
        session = judged(
            _step(task, trainer, next(order), session, share_of(settings, session.at)), settings, task.score
        )
        keep(session)
    if not session.losses:
        raise BadData(f"expected a finite loss, found none in {session.at} steps; check the data or lower the rate")
    return session


def _step(task: Task, trainer: Trainer, chosen: Sequence[int], session: Session, share: float) -> Session:
    started, share = time.monotonic(), share * session.rate
    try:
        slowed = trainer if share == 1 else trainer.slower(share)
        made = slowed.step(session.arrays, session.state, task.rows(chosen))
    except NotFinite as problem:
        return undone(session, str(problem))
    loss = None if made.loss is None else Loss(session.at + 1, made.loss)
    return replace(
        session,
        at=session.at + 1,
        arrays=made.arrays,
        state=made.state,
        before=(session.arrays, session.state),
        losses=session.losses if loss is None else longer(session.losses, loss),
        fresh_undone=0,
        seconds=session.seconds + time.monotonic() - started,
    )


def undone(session: Session, reason: str) -> Session:
    """Back to before the last step, at a lower rate; the rows of this step are passed over."""
    arrays, state = session.before or (session.arrays, session.state)
    rate, count = session.rate * RATE_CUT, session.fresh_undone + 1
    said = Undone(session.at + 1, rate, reason)
    over = f"the loss was not finite in {count} steps in a row" if count >= MOST_UNDONE else ""
    return replace(
        session,
        at=session.at + 1,
        arrays=arrays,
        state=state,
        before=None,
        rate=rate,
        undone=(*session.undone, said),
        fresh_undone=count,
        over=over,
    )


def judged(session: Session, settings: Settings, score: Callable[[Arrays], Score | None]) -> Session:
    """Look at the rows kept back where it is time, and decide whether it is over."""
    last = session.at >= settings.steps or bool(session.over)
    if session.at % settings.look_every == 0 or last:
        session = looked(session, score(session.arrays))
    if session.over:
        return session
    if session.losses and session.losses[-1].loss < settings.stop_loss:
        return replace(session, over=f"the loss is below {settings.stop_loss:g}")
    if settings.patience and session.stale >= settings.patience:
        return replace(session, over=f"no better on the rows kept back for {session.stale} looks")
    return replace(session, over="all steps are done") if last else session


def looked(session: Session, score: Score | None) -> Session:
    """With another look at the rows kept back; without such rows the last arrays are the best."""
    if score is None:
        return session
    look = Look(session.at, score)
    best = min((s.score.loss for s in session.looks), default=float("inf"))
    if score.loss < best:
        return replace(session, looks=(*session.looks, look), best=session.arrays, stale=0)
    return replace(session, looks=(*session.looks, look), stale=session.stale + 1)


def result(session: Session) -> Arrays:
    """The arrays to keep: the best on the rows kept back, or the last."""
    return session.arrays if session.best is None else session.best
