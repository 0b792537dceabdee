"""The train job: AdamW on factors, with gradients of the bundle's backward graphs; biases and a head if asked for.

The gradient of a step is the mean over its rows, summed micro-batch by micro-batch, so the micro-batch changes
memory and not the result. The steps are those of every session (`edge.training.loop`), without rows kept back: what a
round is worth is judged by its gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from console.errors import BadData, join
from edge.data.row import Row
from edge.runner import Runner
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Arrays, Scalars, Trainer
from edge.trainers.pruning import SelfPruning, Tail, kept, pruned
from edge.trainers.qzo import Qzo
from edge.trainers.spry import Spry
from edge.training.felt import Felt
from edge.training.history import Session
from edge.training.learned import Factors, resting
from edge.training.loop import Settings, begin, run
from edge.training.scales import ScaleTask, factors_of, small
from edge.training.task import Task
from edge.training.taught import taught
from edge.training.tokens import NextTokens
from wire.adamw import Hyperparameters
from wire.adapter import Adapter
from wire.forward_gradients import job_board, job_key, unit
from wire.kinds.pairs import Directions, Told
from wire.manifest import Manifest
from wire.optimizers import Adam32
from wire.record import at_least
from wire.thin.table import NONE


@dataclass(frozen=True)
class TrainSettings:
    """What the hub asks for.

    Attributes:
        stop_loss: stop early when a step's mean loss is below it.
        kinds: what learns, of lora and bias; places that the bundle does not have are left out.
        head: whether the head learns too.
        factors: of lora; the one that rests comes back as it was, to the bit.
        prune_gamma: of backprop: the share of directions that are no tail (edge.trainers.pruning); 1: none is.
        prune_lambda: the weight of the tails in the loss.
        trainer: backprop needs the bundle's backward graphs; spry (arXiv 2405.15551) steps along random directions,
            by forward passes, and sends pairs of a counter and a derivative instead of factors; qzo (arXiv 2505.13430)
            moves the scales of a quantized model, by forward passes too.
        directions: of spry and qzo, for each step; of a front without backward graphs, for each run of its graph.
        thin: how the update is sent (`wire.thin.table`).
        shared: of spry: directions are those of this name, for all boards that are told the same; empty: of the job.
        importance: of backprop: what the last steps say of each slot goes with the update (edge.training.felt).
    """

    steps: int = field(default=8, metadata=at_least(1, 100_000))
    batch: int = field(default=16, metadata=at_least(1, 65_536))
    learning_rate: float = field(default=5e-4, metadata=at_least(0))
    beta1: float = field(default=0.9, metadata=at_least(0, 1 - 1e-9))
    beta2: float = field(default=0.99, metadata=at_least(0, 1 - 1e-9))
    weight_decay: float = field(default=0.0, metadata=at_least(0))
    seed: int = field(default=0, metadata=at_least(0))
    stop_loss: float = field(default=0.0, metadata=at_least(0))
    kinds: tuple[str, ...] = ("lora",)
    head: bool = False
    trainer: Literal["backprop", "spry", "qzo"] = "backprop"
    directions: int = field(default=8, metadata=at_least(1, 65_536))
    shared: str = ""
    factors: Factors = "both"
    prune_gamma: float = field(default=1.0, metadata=at_least(0, 1))
    prune_lambda: float = field(default=0.0, metadata=at_least(0))
    thin: str = NONE
    importance: bool = False


Maker = Callable[[Runner, Adapter, Sequence[Row], TrainSettings, str], tuple[Task, Trainer]]


@dataclass(frozen=True)
class Trained:
    """The adapter with its new factors, the session in which they came about, and spry's pairs that make them again.

    `importance` is what its steps say of slots; empty where nobody asked.
    """

    adapter: Adapter
    session: Session
    directions: Directions | None = None
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def losses(self) -> tuple[float, ...]:
        """The mean loss of the steps that are still told apart, see `edge.training.history.longer`."""
        return tuple(one.loss for one in self.session.losses)

    @property
    def seconds_per_step(self) -> float:
        """The mean over all steps."""
        return self.session.seconds / max(1, self.session.at)


def train(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    settings: TrainSettings,
    advance: Callable[[int, float], None] = lambda done, loss: None,
    job: str = "",
    make: Maker | None = None,
) -> Trained:
    """Train what the settings say of an adapter; all else of it stays.

    Args:
        runner: the bundle.
        adapter: where to start; it is not changed.
        rows: what to learn from.
        settings: how.
        advance: told the steps done and the last mean loss.
        job: its name, which makes spry's directions its own.
        make: the task and the trainer, where these are not those that the settings name.

    Raises:
        BadData: no rows, no factors to train, or no step with a finite loss.
    """
    task, trainer = (make or _MAKERS[settings.trainer])(runner, adapter, rows, settings, job)
    felt = Felt(task, runner.manifest)
    task = felt if settings.importance else task
    plan = Settings(settings.steps, settings.batch, settings.seed, patience=0, stop_loss=settings.stop_loss)

    def tell(session: Session) -> None:
        if session.losses:
            advance(session.at, session.losses[-1].loss)

    session = run(task, trainer, plan, begin(task, trainer), tell)
    made, sent = task.adapter(session.arrays), trainer.update(session.arrays, session.state)
    if not isinstance(sent, Scalars):
        prunes = settings.prune_gamma < 1 and "lora" in settings.kinds
        made = pruned(adapter.lora, made, settings.prune_gamma) if prunes else made
        return Trained(made, session, importance=felt.told)
    if settings.trainer == "qzo":  # pairs make factors of ones only: of a version's own, they go as they are
        return Trained(small(made, sent, job_board(job)) if adapter.scales is None else made, session)
    return Trained(made, session, Directions(Told(made.rank, sent.per_step), sent.pairs))


def backprop(
    runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
) -> tuple[Task, Trainer]:
    """Gradients of the bundle's backward graphs."""
    task = taught(runner, _with_biases(runner, adapter, settings), rows, head=settings.head)
    trainer = Backprop(learning(runner.manifest, task.start(), settings), optimizer_of(settings))
    if settings.prune_gamma == 1:
        return task, trainer
    slots = [(runner.manifest.slot(name), w.rank) for name, w in adapter.lora.items() if w.rank]
    tails = tuple(Tail(slot.a, slot.b, kept(settings.prune_gamma, rank)) for slot, rank in slots)
    return task, SelfPruning(trainer, tails, settings.prune_lambda)


def _qzo(
    runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
) -> tuple[Task, Trainer]:
    """Factors of scales, a row of them each."""
    key, task = job_key(adapter.model, adapter.version), _moving(runner, adapter, rows)
    units = factors_of(runner.manifest, adapter).units
    return task, Qzo(key, units, job_board(job), settings.directions, rate=settings.learning_rate)


def _moving(runner: Runner, adapter: Adapter, rows: Sequence[Row]) -> Task:
    if runner.manifest.loss is None:
        return ScaleTask(runner, adapter, rows)
    return NextTokens(runner, adapter, [row.sample for row in rows], scales=factors_of(runner.manifest, adapter))


def _spry(
    runner: Runner, adapter: Adapter, rows: Sequence[Row], settings: TrainSettings, job: str
) -> tuple[Task, Trainer]:
    """Forward gradients of all slots' factors, whose directions the hub makes again from names."""
    if settings.factors != "both":
        raise BadData(f"expected both factors to learn by spry, found {settings.factors} alone; take backprop")
    task = taught(runner, adapter, rows, backward=False)
    slots = runner.manifest.slots_of("lora")
    turned = [s.name for s in slots if s.a > s.b]
    if turned:
        raise BadData(f"expected inputs whose names sort A before B, found others in {join(turned)}; export again")
    units = {unit(s.name): [s.a, s.b] for s in slots if s.name in adapter.lora}
    key, board = job_key(adapter.model, adapter.version), job_board(settings.shared or job)
    trainer = Spry(key, units, board, settings.directions, optimizer=optimizer_of(settings), publish="scalars")
    return task, trainer


_MAKERS = {"backprop": backprop, "spry": _spry, "qzo": _qzo}


def optimizer_of(settings: TrainSettings) -> Adam32:
    """AdamW with the settings' rates."""
    rates = settings.learning_rate, settings.beta1, settings.beta2
    return Adam32(Hyperparameters(*rates, weight_decay=settings.weight_decay))


def places(manifest: Manifest, settings: TrainSettings) -> set[str]:
    """The inputs of all slots that learn, by the settings."""
    names = {n for s in manifest.slots if s.kind in settings.kinds for n in (s.a, s.b, s.bias) if n}
    return names - resting(manifest, settings.factors)


def learning(manifest: Manifest, arrays: Arrays, settings: TrainSettings) -> tuple[str, ...]:
    """Those of some arrays that learn, by graph input.

    Raises:
        BadData: none of the kinds that were asked for has a place here.
    """
    names = places(manifest, settings)
    names |= {manifest.head.weight, manifest.head.bias} if settings.head and manifest.head is not None else set()
    found = tuple(name for name in arrays if name in names)
    if not found:
        raise BadData(
            f"expected places for {' or '.join(settings.kinds)} in the bundle, found none; export with --adapter-kinds"
        )
    return found


def _with_biases(runner: Runner, adapter: Adapter, settings: TrainSettings) -> Adapter:
    """The adapter with a change of 0 for every bias that could learn and has none yet."""
    if "bias" not in settings.kinds:
        return adapter
    new = {s.name: np.zeros(s.features_out, np.float32) for s in runner.manifest.slots_of("bias")}
    return replace(adapter, bias={**new, **adapter.bias})
