"""The evaluate job: how many rows of each class a version gets right, at a rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.data import Row
from edge.runner import Ready, Runner
from wire.adapter import Adapter
from wire.scores import Score


def evaluate(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    version: str,
    rank: int,
    advance: Callable[[int], None] = lambda n: None,
    ready: Ready | None = None,
) -> Score:
    """Count rows and right rows per class; `ready` holds the rows' samples if they are prepared already."""
    return score_of(rows, right_rows(runner, adapter, rows, advance, ready), version, rank, len(runner.manifest.labels))


def right_rows(
    runner: Runner,
    adapter: Adapter,
    rows: Sequence[Row],
    advance: Callable[[int], None] = lambda n: None,
    ready: Ready | None = None,
) -> NDArray[np.bool_]:
    """Which rows an adapter gets right, [rows].

    A version without a head knows no class, so nothing that it says is right.
    """
    if adapter.head is None or not rows:
        return np.zeros(len(rows), bool)
    samples = [r.sample for r in rows] if ready is None else ready
    right: NDArray[np.bool_] = runner.forward(samples, adapter, advance).logits.argmax(axis=1) == _labels(rows)
    return right


def score_of(
    rows: Sequence[Row],
    right: NDArray[np.bool_],
    version: str,
    rank: int,
    classes: int,
    first: NDArray[np.bool_] | None = None,
) -> Score:
    """The counts per class; `first` says which rows the first version of the job gets right."""
    labels = _labels(rows)

    def count(chosen: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(int(n) for n in np.bincount(labels[chosen], minlength=classes))

    both = () if first is None else count(right & first)
    return Score(version, rank, count(np.ones(len(rows), bool)), count(right), both)


def _labels(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([r.label for r in rows], np.int64)
