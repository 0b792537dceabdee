"""What the fleet is compared with: each board alone, and all rows on one machine. Same code, same numbers of steps.

Both use the boards' own training step and the hub's own closed-form head, so that only the sharing differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.data import Row
from edge.evaluate import evaluate
from edge.features import statistics
from edge.runner import Runner
from edge.train import TrainSettings, train
from wire import discriminant
from wire.adapter import Adapter
from wire.kinds.head import Statistics
from wire.kinds.lora import Lora
from wire.ladder import slot_key, spare_columns
from wire.manifest import Manifest
from wire.scores import Score

NO_VERSION = "0" * 64


@dataclass(frozen=True)
class Effort:
    """How much is learned: `rounds` times `steps` steps of `batch` rows; optimizer state dropped between rounds."""

    rounds: int
    steps: int
    batch: int
    learning_rate: float
    seed: int


def first_adapter(manifest: Manifest, rank: int, scale: float) -> Adapter:
    """The prefix of version 0 that a board of this rank starts from: seeded A [in, rank], B = 0."""
    lora = {}
    for slot in manifest.slots_of("lora"):
        columns = spare_columns(slot.features_in, rank, slot_key(manifest.model.id, slot.name, 0))
        b = np.zeros((rank, slot.features_out), np.float32)
        lora[slot.name] = Lora(columns.astype(np.float32), b, scale)
    return Adapter(manifest.model.id, lora=lora)


def learn_alone(
    runner: Runner,
    start: Adapter,
    rows: Sequence[Row],
    test: Sequence[Row],
    effort: Effort,
    advance: Callable[[str], None] = lambda words: None,
    first: Statistics | None = None,
) -> Score:
    """Statistics, training, statistics again, on one machine; scored on the test rows.

    Args:
        runner: the bundle of the board.
        start: where it starts.
        rows: what it learns from.
        test: the common test set.
        effort: as much as a board of the fleet makes.
        advance: told after each piece of work; may raise to stop.
        first: statistics of the rows before anything is learned, if they are known already.
    """
    sums = first if first is not None else _sums(runner, start, rows, advance)
    adapter = _with_head(start, sums)
    for turn in range(effort.rounds):
        settings = TrainSettings(
            steps=effort.steps, batch=effort.batch, learning_rate=effort.learning_rate, seed=effort.seed + turn
        )
        adapter = train(runner, adapter, rows, settings, lambda done, loss: advance("a step")).adapter
    adapter = _with_head(adapter, _sums(runner, adapter, rows, advance))
    rank = max((factors.rank for factors in adapter.lora.values()), default=0)
    return evaluate(runner, adapter, test, NO_VERSION, rank, lambda n: advance("rows"))


def _sums(runner: Runner, adapter: Adapter, rows: Sequence[Row], advance: Callable[[str], None]) -> Statistics:
    return statistics(runner, adapter, rows, advance=lambda n: advance("rows"))[0]


def _with_head(adapter: Adapter, sums: Statistics) -> Adapter:
    return replace(adapter, heads={adapter.rank: discriminant.solve(sums)})
