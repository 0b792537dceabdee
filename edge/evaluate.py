"""The evaluate job: how many rows of each class a version gets right, at a rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

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
    """Count rows and right rows per class; `ready` holds the rows' samples if they are prepared already.

    A version without a head knows no class, so nothing that it says is right.
    """
    total = len(runner.manifest.labels)
    labels = np.array([r.label for r in rows], np.int64)
    right = np.zeros(len(rows), bool)
    if adapter.head is not None and rows:
        samples = [r.sample for r in rows] if ready is None else ready
        right = runner.forward(samples, adapter, advance).logits.argmax(axis=1) == labels
    count = np.bincount(labels, minlength=total)
    correct = np.bincount(labels[right], minlength=total)
    return Score(version, rank, tuple(int(n) for n in count), tuple(int(n) for n in correct))
