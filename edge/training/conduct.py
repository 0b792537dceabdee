"""A training run, from a bundle and data to an adapter: choose, start, step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError
from edge.data.row import Row
from edge.runner import Runner
from edge.trainers import edit
from edge.trainers.interface import Array, Trainer
from edge.training.classes import Classes
from edge.training.decide import Means, decide
from edge.training.edits import mend
from edge.training.heads import RECIPES, Recipe, Solved, closed_head
from edge.training.history import Course, Session
from edge.training.interrupts import interrupts
from edge.training.learned import resting
from edge.training.loop import Settings, begin, result, run
from edge.training.makers import key_of_run, trainer_of
from edge.training.saver import Saver
from edge.training.scales import ScaleTask, factors_of, replayed_by, small
from edge.training.source import Source
from edge.training.task import Task
from edge.training.tokens import NextTokens
from edge.training.wish import Wish
from edge.trunk import Kept
from wire.adapter import Adapter
from wire.files import digest
from wire.manifest import Manifest
from wire.record import plain

LOOKS_PER_PASS = 2


@dataclass(frozen=True)
class Hooks:
    """Who is told what while a run goes on.

    Attributes:
        say: told sentences.
        steps: told how many steps there will be, once that is known.
        stepped: told the session after every step.
    """

    say: Callable[[str], None] = lambda words: None
    steps: Callable[[int], None] = lambda steps: None
    stepped: Callable[[Session], None] = lambda session: None


@dataclass(frozen=True)
class Ended:
    """What a run leaves: the adapter, what trained it, what there is to say, and what its cache did."""

    adapter: Adapter
    trainer: str
    trained: str
    parameters: int
    session: Session | None = None
    sentences: tuple[str, ...] = ()
    cache: Kept | None = None


@dataclass
class Run:
    """One run under way.

    Args:
        source: what it is made from.
        wish: what was asked for.
        saver: keeps it on disk.
        hooks: who is told what.
    """

    source: Source
    wish: Wish
    saver: Saver
    hooks: Hooks
    said: list[str] = field(default_factory=list)

    def say(self, *words: str) -> None:
        """Sentences, now and in the report."""
        self.said += words
        for sentence in words:
            self.hooks.say(sentence)

    def conduct(self) -> Ended:
        """Train as wished.

        Raises:
            BadData: the data or the adapter do not fit the bundle, or no step had a finite loss.
            UsageError: something was asked for that does not exist.
            Declined: the data do not support a tier, or an edit cannot be made within its bound.
            DoesNotFit: no trainer fits the memory that is free.
        """
        if self.wish.trainer == "edit":
            return self._edit()
        if self.wish.factors == "a" and (self.source.begun is None or not self.source.begun.rank):
            raise UsageError(
                "expected an adapter to go on from for --factors a, found none: A has no gradient while B is 0; give "
                "one with --adapter"
            )
        parts = [self.source.runner.bundle.sha256, self.source.sha256, plain(self.wish)]
        self.saver.fingerprint = digest(json.dumps(parts).encode())
        session = self.saver.found()
        if session is not None and session.course is not None:
            self.say(f"It goes on after step {session.at} of a run that was interrupted.")
            return self._steps(session.course, session)
        if self.wish.trainer == "qzo":
            return self._scales(self.source.begun or Adapter(self._manifest.model.id), 0)
        chosen = decide(self._means(), self.source.begun, self.wish, self.say)
        if chosen.offer.head:
            return self._ended(chosen.adapter, chosen.trainer, chosen.offer.name, chosen.offer.parameters)
        if chosen.trainer == "qzo":
            return self._scales(chosen.adapter, chosen.directions)
        micro_batch = self.wish.micro_batch or chosen.micro_batch
        course = Course(chosen.trainer, chosen.offer.name, chosen.steps, chosen.directions, micro_batch, chosen.adapter)
        return self._steps(course)

    def _means(self) -> Means:
        """What a decision is made from."""
        texts, data = self.source.texts, self.source.data
        train, kept_back = (data.train, data.holdout) if texts is None else (texts.train, texts.holdout)
        solve = None if texts is not None or self._manifest.head is None else self._solve
        steps = settings_of(self.wish, len(train)).steps if train else 1

        def task(trainer: str, adapter: Adapter) -> Task:
            return self._task(Course(trainer, "", None, 0, self.wish.micro_batch, adapter))

        return Means(self._manifest, len(train), len(kept_back), steps, task, solve)

    def _solve(self, adapter: Adapter, recipes: Sequence[Recipe]) -> Solved:
        """The head in closed form of the rows, for the features of an adapter."""
        features, labels = features_of(self.source.runner, adapter, self.source.data.train)
        return closed_head(features, labels, len(self._manifest.labels), recipes=recipes, seed=self.wish.seed)

    def _steps(self, course: Course, session: Session | None = None) -> Ended:
        task = self._task(course)
        arrays = task.start()
        capped = self.wish if course.steps is None else replace(self.wish, steps=course.steps)
        settings = settings_of(capped, len(task))
        self.hooks.steps(settings.steps)
        wish = replace(self.wish, directions=course.directions or self.wish.directions)
        trainer = trainer_of(course.trainer, wish, self._manifest, arrays)
        if session is None:
            session = replace(begin(task, trainer), course=course)
        self.hooks.stepped(session)
        if task.truncated:
            self.say(f"{task.truncated} of {len(task):,} rows are longer than the bucket and lose their end.")
        session = self._run(task, trainer, settings, session)
        rests, adapter = resting(self._manifest, wish.factors), task.adapter(result(session))
        parameters = sum(array.size for name, array in arrays.items() if name not in rests)
        if course.trainer == "qzo":
            key = key_of_run(self._manifest, wish)
            adapter = small(adapter, replayed_by(key, session.state, wish.directions))
        return replace(self._ended(adapter, course.trainer, course.tier, parameters), session=session)

    def _run(self, task: Task, trainer: Trainer, settings: Settings, session: Session) -> Session:
        latest = [session]

        def keep(now: Session) -> None:
            latest[0] = now
            self.hooks.stepped(now)
            self.saver.keep(now)
            interrupted()

        with interrupts() as interrupted:
            try:
                return run(task, trainer, settings, session, keep)
            except KeyboardInterrupt:
                self.saver.write(latest[0])
                raise

    def _scales(self, adapter: Adapter, directions: int) -> Ended:
        if self.source.texts is None and adapter.head is None:
            solved = self._solve(adapter, RECIPES)
            self.say(*solved.sentences)
            adapter = replace(adapter, heads={adapter.rank: solved.head})
        return self._steps(Course("qzo", "scales", None, directions, None, adapter))

    def _task(self, course: Course) -> Task:
        source, adapter, backward = self.source, course.adapter, course.trainer == "backprop"
        if course.trainer == "qzo" and source.texts is None:
            return ScaleTask(source.runner, adapter, source.data.train, source.data.holdout, layers=self.wish.layers)
        if source.texts is not None:
            scales = factors_of(self._manifest, adapter, self.wish.layers) if course.trainer == "qzo" else None
            return NextTokens(
                source.runner,
                adapter,
                source.texts.train,
                source.texts.holdout,
                packed=self.wish.packed,
                backward=backward,
                scales=scales,
                micro_batch=course.micro_batch,
            )
        head = backward and "head" in self.wish.kinds
        rows, held = source.data.train, source.data.holdout
        micro_batch = course.micro_batch
        return Classes(source.runner, adapter, rows, held, head=head, backward=backward, micro_batch=micro_batch)

    def _edit(self) -> Ended:
        source = self.source
        if source.texts is not None:
            raise BadData("expected a bundle with a head to mend, found a decoder; take another --trainer")
        if source.begun is None:
            raise BadData("expected the adapter whose answers are to be mended, found none; give it with --adapter")
        rank = self.wish.rank or edit.Settings().rank
        settings = edit.Settings(rank=rank, bound=self.wish.bound, seed=self.wish.seed)
        done = mend(source.runner, source.begun, source.data.all, source.keep.all, settings)
        self.say(*done.edited.sentences)
        count = sum(lora.a.size + lora.b.size for lora in done.edited.change.values())
        return self._ended(done.adapter, "edit", f"an edit of rank {settings.rank}", count)

    def _ended(self, adapter: Adapter, trainer: str, trained: str, parameters: int) -> Ended:
        return Ended(adapter, trainer, trained, parameters, sentences=tuple(self.said))

    @property
    def _manifest(self) -> Manifest:
        return self.source.runner.manifest


def settings_of(wish: Wish, rows: int) -> Settings:
    """Steps and looks from passes over so many rows.

    >>> settings_of(Wish(epochs=2, batch=10), 95)
    Settings(steps=20, batch=10, seed=0, look_every=5, patience=4, stop_loss=0.0, schedule='linear', warmup=1)
    """
    a_pass = -(-rows // min(wish.batch, rows))
    steps = wish.steps or max(1, round(wish.epochs * a_pass))
    look_every, warmup = max(1, a_pass // LOOKS_PER_PASS), round(wish.warmup * steps)
    return Settings(steps, wish.batch, wish.seed, look_every, wish.patience, schedule=wish.schedule, warmup=warmup)


def features_of(runner: Runner, adapter: Adapter, rows: Sequence[Row]) -> tuple[Array, NDArray[np.int64]]:
    """Features [n, D] and labels [n] of rows."""
    features = runner.forward([row.sample for row in rows], adapter).features
    return features, np.array([row.label for row in rows], np.int64)
