"""The statistics job: per class count and sum of features, and the sum of x xT, of one version of the adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from console.errors import BadData
from edge.data import Row
from edge.runner import Ready, Runner
from wire.adapter import Adapter
from wire.kinds.head import Statistics, gather

BLOCK_ROWS = 256  # features of so many rows are held in float64 at once


def enough(rows: Sequence[Row], minimum_per_class: int) -> list[Row]:
    """The rows of classes with at least so many: the mean of fewer would be close to somebody's data.

    Raises:
        BadData: no class has so many rows.
    """
    held = Counter(row.label for row in rows)
    chosen = [row for row in rows if held[row.label] >= minimum_per_class]
    if not chosen:
        raise BadData(
            f"expected at least {max(1, minimum_per_class)} rows of one class, found {max(held.values(), default=0)}"
        )
    return chosen


def statistics(
    runner: Runner,
    adapter: Adapter | None,
    rows: Sequence[Row],
    minimum_per_class: int = 0,
    advance: Callable[[int], None] = lambda n: None,
    ready: Ready | None = None,
) -> tuple[Statistics, int]:
    """Statistics of rows, and how many rows went in; `ready` holds their samples if they are prepared already.

    Raises:
        BadData: no row is left, see `enough`.
    """
    chosen = enough(rows, minimum_per_class)
    samples, total = [r.sample for r in chosen] if ready is None else ready, len(runner.manifest.labels)
    features = runner.forward(samples, adapter, advance).features
    size = features.shape[1]
    sums = Statistics(np.zeros(total), np.zeros((total, size)), np.zeros((size, size)))
    labels = np.array([r.label for r in chosen], np.int64)
    if runner.frugal:  # the sums take 10 MiB for 384 features, which need not come on top of a session
        runner.close()
    for start in range(0, len(chosen), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sums = sums + gather(features[block], labels[block], total)
    return sums, len(chosen)
