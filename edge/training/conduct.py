"""A training run from a bundle and data to an adapter: choose, start, step, write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.data.row import Data, Row
from edge.runner import Runner
from edge.trainers.interface import Array, Trainer
from edge.training.classes import Classes
from edge.training.heads import RECIPES, closed_head
from edge.training.history import Session
from edge.training.loop import Settings, begin, result, run
from edge.training.makers import trainer_of
from edge.training.saver import Saver
from edge.training.task import Task
from edge.training.tiers import Offer, offers, start
from edge.training.wish import Wish
from wire.adapter import Adapter, to_bytes
from wire.files import digest
from wire.record import plain

LOOKS_PER_PASS = 2


@dataclass(frozen=True)
class Source:
    """What a run is made from.

    Attributes:
        runner: of the bundle.
        data: rows, some of them kept back.
        begun: an adapter to go on from.
        data_sha256: of the bytes of the data, for the fingerprint of checkpoints.
    """

    runner: Runner
    data: Data
    begun: Adapter | None = None
    data_sha256: str = ""


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
    """What a run leaves: the adapter, what trained it, and what there is to say."""

    adapter: Adapter
    trainer: str
    trained: str
    parameters: int
    session: Session | None
    sentences: tuple[str, ...] = ()


def conduct(source: Source, wish: Wish, saver: Saver, hooks: Hooks) -> Ended:
    """Train as wished.

    Raises:
        BadData: the data or the adapter do not fit the bundle, or no step had a finite loss.
        UsageError: something was asked for that does not exist.
    """
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        hooks.say(words)

    name = _trainer(source, wish)
    offer = _offer(source, wish)
    adapter = start(source.runner.manifest, offer, seed=wish.seed, scaling=wish.scaling, begun=source.begun)
    adapter = _with_head(source, adapter, wish, say)
    if name == "ridge" or offer.head:
        head = adapter.head
        count = 0 if head is None else head.weight.size + head.bias.size
        return Ended(adapter, "ridge", "head", count, None, tuple(said))
    task = Classes(
        source.runner,
        adapter,
        source.data.train,
        source.data.holdout,
        head="head" in wish.kinds and name == "backprop",
        backward=name == "backprop",
    )
    arrays = task.start()
    settings = settings_of(wish, len(task))
    hooks.steps(settings.steps)
    trainer = trainer_of(name, wish, source.runner.manifest, arrays)
    saver.fingerprint = fingerprint(source, name, wish, settings, adapter)
    session = saver.found()
    if session is None:
        session = begin(task, trainer)
    else:
        say(f"goes on after step {session.at} of a run that was interrupted")
    hooks.stepped(session)
    session = _run(task, trainer, settings, session, saver, hooks)
    parameters = sum(array.size for array in arrays.values())
    return Ended(task.adapter(result(session)), name, offer.name, parameters, session, tuple(said))


def _run(task: Task, trainer: Trainer, settings: Settings, session: Session, saver: Saver, hooks: Hooks) -> Session:
    latest = [session]

    def keep(now: Session) -> None:
        latest[0] = now
        hooks.stepped(now)
        saver.keep(now)

    try:
        return run(task, trainer, settings, session, keep)
    except KeyboardInterrupt:
        saver.write(latest[0])
        raise


def settings_of(wish: Wish, rows: int) -> Settings:
    """Steps and looks from passes over so many rows.

    >>> settings_of(Wish(epochs=2, batch=10), 95)
    Settings(steps=20, batch=10, seed=0, look_every=5, patience=3, stop_loss=0.0)
    """
    a_pass = -(-rows // min(wish.batch, rows))
    steps = wish.steps or max(1, round(wish.epochs * a_pass))
    return Settings(steps, wish.batch, wish.seed, max(1, a_pass // LOOKS_PER_PASS), wish.patience)


def fingerprint(source: Source, trainer: str, wish: Wish, settings: Settings, adapter: Adapter) -> str:
    """Of everything that the bytes of the result depend on."""
    parts = [source.runner.bundle.sha256, source.data_sha256, trainer, plain(wish), plain(settings)]
    return digest(json.dumps([*parts, digest(to_bytes(adapter))]).encode())


def _trainer(source: Source, wish: Wish) -> str:
    if wish.trainer != "auto":
        return wish.trainer
    kinds = {graph.kind for segment in source.runner.manifest.segments for graph in segment.graphs}
    return "backprop" if "backward" in kinds else "spry"


def _offer(source: Source, wish: Wish) -> Offer:
    return offers(source.runner.manifest, wish.kinds, wish.rank)[-1]


def _with_head(source: Source, adapter: Adapter, wish: Wish, say: Callable[[str], None]) -> Adapter:
    """The adapter with a head in closed form, unless it has one that is to be kept."""
    runner = source.runner
    if runner.manifest.head is None or (adapter.head is not None and wish.trainer != "ridge"):
        return adapter
    features, labels = features_of(runner, adapter, source.data.train)
    recipes = ("ridge",) if wish.trainer == "ridge" else RECIPES
    solved = closed_head(features, labels, len(runner.manifest.labels), recipes=recipes, seed=wish.seed)
    for words in solved.sentences:
        say(words)
    return replace(adapter, heads={**adapter.heads, adapter.rank: solved.head})


def features_of(runner: Runner, adapter: Adapter, rows: Sequence[Row]) -> tuple[Array, NDArray[np.int64]]:
    """Features [n, D] and labels [n] of rows."""
    features = runner.forward([row.sample for row in rows], adapter).features
    return features, np.array([row.label for row in rows], np.int64)


def rows_digest(data: Data) -> str:
    """SHA-256 over all rows in order: texts and arrays by what is in them, files by name, size and time of change."""
    sha = hashlib.sha256()
    for side in (data.train, data.holdout):
        for row in side:
            sha.update(f"{row.label} ".encode() + _content(row.sample) + b"\0")
        sha.update(b"|")
    return sha.hexdigest()


def _content(sample: object) -> bytes:
    if isinstance(sample, Path):
        found = sample.stat()
        return f"{sample} {found.st_size} {found.st_mtime_ns}".encode()
    if isinstance(sample, Mapping):
        return b"".join(name.encode() + np.asarray(value).tobytes() for name, value in sorted(sample.items()))
    return sample.encode() if isinstance(sample, str) else np.asarray(sample).tobytes()
