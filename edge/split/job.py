"""The two halves of a train job: what the board does with its rows, and what makes a tail's session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from console.errors import BadData
from devices.split.pace import Pace
from edge.chain import Chain
from edge.data.row import Row
from edge.runner import Runner
from edge.split.channel import Channel
from edge.split.differences import Differences
from edge.split.front import Front
from edge.split.headed import Headed
from edge.split.local import Alone, Once, first_head
from edge.split.parts import part_of
from edge.split.softmax import BIAS, WEIGHT, blank
from edge.split.tail import Session, border_of
from edge.split.talk import SILENCE_S, Talk
from edge.split.together import Together
from edge.split.wish import Wish, wish_of
from edge.train import Maker, Trained, TrainSettings, backprop, learning, optimizer_of, places, train
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Trainer
from edge.training.classes import Classes
from edge.training.felt import Remembered
from edge.training.learned import learned, with_head
from edge.training.order import batches
from edge.training.task import Task
from wire.activations import Coding
from wire.adapter import Adapter
from wire.borders import forward_only
from wire.forward_gradients import job_board, job_key
from wire.manifest import Manifest
from wire.record import NAME, matching

SHOWN = 256  # rows from which a head at the border begins


@dataclass(frozen=True)
class SplitSettings:
    """What the hub says of a split job besides how to train.

    Attributes:
        tail: of the board's job: who has the tail. Empty in the tail's.
        board: of the tail's job: whose tail it is. Empty in the board's.
        key: the other one's public key.
        coding: of what gradients flow through.
        labels: whether they go along, or stay on the board with the last layer.
        mode: steps: gradients come back in every step; local: the halves meet once a round; features: of a statistics
            job, forward alone, and features come back.
        address: HOST:PORT of the tail, where the board may reach it without the broker.
    """

    key: str = ""
    tail: str = field(default="", metadata=matching(f"|{NAME}"))
    board: str = field(default="", metadata=matching(f"|{NAME}"))
    coding: Coding = "int8"
    labels: str = field(default="along", metadata=matching("along|stay"))
    mode: str = field(default="steps", metadata=matching("steps|local|features"))
    address: str = ""


def train_front(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    settings: TrainSettings,
    channel: Channel,
    split: SplitSettings,
    base: str = "",
    advance: Callable[[int, float], None] = lambda done, loss: None,
    job: str = "",
    silence_s: float = SILENCE_S,
    paced: Callable[[int, Pace], None] = lambda steps, pace: None,
) -> tuple[Trained, Talk]:
    """Train the front with a tail that `channel` leads to.

    Args:
        runner: of the front's bundle.
        adapter: of the whole model, where to start.
        rows: what to learn from.
        settings: how; the head is the tail's.
        channel: to the tail.
        split: how the halves meet.
        base: digest of the version that `adapter` is of.
        advance: told the steps done and the last mean loss.
        job: its name.
        silence_s: how long the tail may be silent.
        paced: told, after each step with the tail, how many were done and what one takes.

    Raises:
        PeerGone: the tail is not heard, or does not take part.
        BadData: see `edge.train.train`.
    """
    if split.mode == "local" and split.labels == "stay":
        raise BadData("expected labels to go along where the halves meet once, found that they stay; train in steps")
    talk, local = Talk(channel, silence_s), split.mode == "local"
    along, classes = split.labels == "along", [row.label for row in rows]
    talk.open(wish_of(runner.manifest, base, split.coding, classes, labels=along, back=not local))
    own, look = part_of(runner.manifest, adapter), differences_of(runner.manifest, adapter, settings, job, talk.busy)
    settings = settings if look is None else replace(settings, importance=False)  # of few directions: noise
    if local:
        done = _alone(runner, own, rows, settings, _heard(talk, advance), job, look)
        _met(runner, done.adapter, rows, settings, talk)
    else:
        front = Front(runner.bundle, talk, runner.chain.threads, runner.chain.providers, look)
        make = _with_labels(talk) if along else _without_labels(front, adapter)
        with _through(runner, front):
            done = train(runner, own, rows, settings, _paced(talk, advance, paced), job, make)
    talk.end()
    return done, talk


def _heard(talk: Talk, advance: Callable[[int, float], None]) -> Callable[[int, float], None]:
    """The same, and the tail, which has nothing to do yet, hears that somebody is there."""

    def told(done: int, loss: float) -> None:
        talk.busy()
        advance(done, loss)

    return told


def _paced(
    talk: Talk, advance: Callable[[int, float], None], paced: Callable[[int, Pace], None]
) -> Callable[[int, float], None]:
    """The same, and somebody hears what the steps have taken by now."""
    began_s = time.monotonic()

    def told(done: int, loss: float) -> None:
        advance(done, loss)
        paced(talk.step, talk.pace(time.monotonic() - began_s))

    return told


def differences_of(
    manifest: Manifest, start: Adapter, settings: TrainSettings, job: str, beat: Callable[[], None]
) -> Differences | None:
    """How a front without backward graphs learns; None where there are some."""
    if not forward_only(manifest):
        return None
    key, board = job_key(start.model, start.version), job_board(job)
    return Differences(key, board, sorted(places(manifest, settings)), settings.directions, beat=beat)


@contextmanager
def _through(runner: Runner, chain: Chain) -> Iterator[None]:
    """A runner that goes through another chain for a while."""
    runner.chain.close()
    runner.chain, before = chain, runner.chain
    try:
        yield
    finally:
        chain.close()
        runner.chain = before


def _alone(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    settings: TrainSettings,
    advance: Callable[[int, float], None],
    job: str,
    look: Differences | None,
) -> Trained:
    """All steps against a head at the border, which begins in closed form and is forgotten afterwards."""
    front = Alone(runner.bundle, runner.chain.threads, runner.chain.providers, look)

    def make(
        runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
    ) -> tuple[Task, Trainer]:
        shown = next(batches(len(rows), SHOWN, settings.seed))
        task = Headed(runner, front, adapter, first_head(runner, front, adapter, [rows[at] for at in shown]), rows)
        names = learning(runner.manifest, task.start(), settings)
        return task, Backprop((*names, WEIGHT, BIAS), optimizer_of(settings))

    with _through(runner, front):
        done = train(runner, adapter, rows, replace(settings, head=False), advance, job, make)
    return replace(done, adapter=replace(done.adapter, heads={}))


def _met(runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, talk: Talk) -> None:
    """Every row goes up once, as the front now makes it; the tail steps after each batch."""
    steps = min(settings.steps, -(-len(rows) // settings.batch))
    with _through(runner, Once(runner.bundle, talk, runner.chain.threads, runner.chain.providers)):
        task = Classes(runner, adapter, rows)
        arrays = task.start()
        for chosen in islice(batches(len(rows), settings.batch, settings.seed), steps):
            ask = task.rows(chosen).gradients
            found = [] if ask is None else ask(arrays)
            talk.stepped(sum(one.rows for one in found), 1.0)


def _with_labels(talk: Talk) -> Maker:
    """The tail has the head, and all labels go along."""

    def make(
        runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
    ) -> tuple[Task, Trainer]:
        task, trainer = backprop(runner, adapter, rows, replace(settings, head=False), job)
        return task, Together(trainer, talk)

    return make


def _without_labels(front: Front, whole: Adapter) -> Maker:
    """The board has the head (U-shaped: Vepakomma et al., arXiv 1812.00564, section 3.2)."""

    def make(
        runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
    ) -> tuple[Task, Trainer]:
        classes = len(runner.manifest.labels)
        task = Headed(runner, front, adapter, whole.head or blank(front.talk.width, classes), rows)
        names = learning(runner.manifest, task.start(), replace(settings, head=False))
        own = (WEIGHT, BIAS) if settings.head else ()
        return task, Together(Backprop((*names, *own), optimizer_of(settings)), front.talk)

    return make


def session_of(
    chain: Chain,
    adapter: Adapter,
    settings: TrainSettings,
    wish: Wish,
    advance: Callable[[int], None] = lambda done: None,
) -> Session:
    """What a board's job is at its tail.

    Args:
        chain: of the tail's bundle, the whole model.
        adapter: of the whole model, where to start.
        settings: as the board's.
        wish: of the board.
        advance: told the steps done.

    Raises:
        BadData: the tail has no cut where the front ends, or nothing that learns.
    """
    manifest = chain.manifest
    border = border_of(manifest, wish)
    own = part_of(manifest, adapter, [s.name for s in manifest.segments[border.first :]])
    if "bias" in settings.kinds:
        names = {s.name for s in manifest.segments[border.first :]}
        fresh = {s.name: np.zeros(s.features_out, np.float32) for s in manifest.slots_of("bias") if s.segment in names}
        own = replace(own, bias={**fresh, **own.bias})
    arrays, headed = learned(manifest, own), settings.head and wish.labels
    if headed:
        arrays |= with_head(manifest, own)
    trainer = Backprop(learning(manifest, arrays, replace(settings, head=headed)), optimizer_of(settings))
    felt = Remembered(manifest) if settings.importance else None
    return Session(chain, own, trainer, wish, arrays, border, headed, advance, felt)
