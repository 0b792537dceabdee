"""The train job: AdamW on the LoRA factors, with gradients of the bundle's backward graphs; the head is frozen.

The gradient of a step is the mean over its rows, summed micro-batch by micro-batch, so the micro-batch changes
memory and not the result.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.adamw import AdamW, Hyperparameters
from edge.data import Row
from edge.runner import Runner
from wire.adapter import Adapter
from wire.inputs import changes_layers
from wire.kinds.lora import Lora
from wire.record import at_least


@dataclass(frozen=True)
class TrainSettings:
    """What the hub asks for. `stop_loss`: stop early when a step's mean loss is below it."""

    steps: int = field(default=8, metadata=at_least(1, 100_000))
    batch: int = field(default=16, metadata=at_least(1, 65_536))
    learning_rate: float = field(default=5e-4, metadata=at_least(0))
    beta1: float = field(default=0.9, metadata=at_least(0, 1 - 1e-9))
    beta2: float = field(default=0.99, metadata=at_least(0, 1 - 1e-9))
    weight_decay: float = field(default=0.0, metadata=at_least(0))
    seed: int = field(default=0, metadata=at_least(0))
    stop_loss: float = field(default=0.0, metadata=at_least(0))


@dataclass(frozen=True)
class Trained:
    """The adapter with its new factors, the mean loss of each step, and the seconds that a step took."""

    adapter: Adapter
    losses: tuple[float, ...]
    seconds_per_step: float


def train(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    settings: TrainSettings,
    advance: Callable[[int, float], None] = lambda done, loss: None,
) -> Trained:
    """Train the LoRA factors and the biases of an adapter; its head and scales stay.

    Args:
        runner: the bundle.
        adapter: where to start; it is not changed.
        rows: what to learn from.
        settings: how.
        advance: told the steps done and the last mean loss.

    Raises:
        BadData: no rows, no factors to train, or a loss that is not finite.
    """
    if not rows:
        raise BadData("expected rows to train on, found none; give the board data or a smaller hold-out")
    if not changes_layers(adapter):
        raise BadData("expected a version with directions to train, found rank 0; export with --mode train")
    factors = {name: (lora.a.copy(), lora.b.copy()) for name, lora in adapter.lora.items()}
    biases = {name: delta.copy() for name, delta in adapter.bias.items()}
    lora = {n: Lora(a, b, adapter.lora[n].scale) for n, (a, b) in factors.items()}
    trained = replace(adapter, lora=lora, bias=biases)
    parameters = _parameters(runner, factors) | {runner.manifest.slot(n, "bias").bias: d for n, d in biases.items()}
    optimizer = AdamW(_hyperparameters(settings))
    order = batches(len(rows), settings.batch, settings.steps, settings.seed)
    used = sorted({row for chosen in order for row in chosen})  # rows that no step takes need no preparation
    ready, at = runner.ready([rows[i].sample for i in used], training=True), {row: i for i, row in enumerate(used)}
    losses: list[float] = []
    started = time.monotonic()
    for chosen in order:
        sums = runner.gradients(ready, trained, [(at[i], rows[i].label) for i in chosen])
        losses.append(sums.loss / len(chosen))
        if not math.isfinite(losses[-1]):
            raise BadData(f"expected a finite loss, found {losses[-1]} in step {len(losses)}; lower the learning rate")
        mean = {name: sums.by_input[name] / np.float32(len(chosen)) for name in parameters if name in sums.by_input}
        optimizer.step(parameters, mean)
        advance(len(losses), losses[-1])
        if losses[-1] < settings.stop_loss:
            break
    per_step = (time.monotonic() - started) / len(losses)
    return Trained(trained, tuple(losses), per_step)


def batches(rows: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Which rows each step takes: passes over all rows, each in a new seeded order.

    >>> [len(b) for b in batches(10, 4, 3, 0)], sorted(sum(batches(10, 5, 2, 0), []))
    ([4, 4, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    # Python's generator: its shuffle is the same in every version, and numpy's would cost a worker 3 MiB
    generator, size = random.Random(seed), min(batch, rows)  # noqa: S311  # a repeatable order, not a secret
    stream: list[int] = []
    while len(stream) < steps * size:
        order = list(range(rows))
        generator.shuffle(order)
        stream += order
    return [stream[i * size : (i + 1) * size] for i in range(steps)]


def _parameters(
    runner: Runner, factors: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """The factors under the names of the graph inputs; the arrays are shared with the adapter, so a step shows."""
    parameters = {}
    for name, (a, b) in factors.items():
        slot = runner.manifest.slot(name)
        parameters[slot.a], parameters[slot.b] = a, b
    return parameters


def _hyperparameters(settings: TrainSettings) -> Hyperparameters:
    return Hyperparameters(settings.learning_rate, settings.beta1, settings.beta2, weight_decay=settings.weight_decay)
