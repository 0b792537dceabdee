"""Large batches on small memory: gradients summed over ghost batches, clipped, at a rate that fits the batch.

Hoffer, Hubara and Soudry, "Train longer, generalize better: closing the generalization gap in large batch training
of neural networks", NeurIPS 2017, arXiv 1705.08741: a batch is run in chunks and steps once (section 4, ghost
batches); the rate grows with the square root of the batch (section 3.1); what counts is the number of steps and not
of samples (section 5). Clipping is by the norm over all arrays: Pascanu, Mikolov and Bengio, ICML 2013, algorithm 1.

Graphs for training freeze the statistics of BatchNorm, so the mean over ghost batches is the gradient of the batch:
how it was cut changes memory and rounding, and not the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from console.errors import BadData
from edge.trainers.interface import Array, Arrays, Gradients, NotFinite


def mean_of(parts: Iterable[Gradients]) -> tuple[float, dict[str, Array]]:
    """The mean loss and the mean gradient over the rows of all parts, one part at a time.

    Raises:
        BadData: no rows.
        NotFinite: the loss.

    >>> part = Gradients(6.0, {"a": np.array([3.0], np.float32)}, 3)
    >>> mean_of([part, Gradients(2.0, {"a": np.array([5.0], np.float32)}, 1)])
    (2.0, {'a': array([2.], dtype=float32)})
    """
    loss, rows = 0.0, 0
    sums: dict[str, Array] = {}
    for part in parts:
        loss, rows = loss + part.loss, rows + part.rows
        for name, gradient in part.by_input.items():
            if name in sums:
                sums[name] += gradient
            else:
                sums[name] = gradient.astype(np.float32)
    if not rows:
        raise BadData("expected rows to train on, found none; give the board data or a smaller hold-out")
    if not math.isfinite(loss):
        raise NotFinite(f"expected a finite loss, found {loss}; lower the learning rate")
    return loss / rows, {name: total / np.float32(rows) for name, total in sums.items()}


def norm(gradients: Mapping[str, Array]) -> float:
    """The Euclidean norm over all arrays, in float64.

    >>> norm({"a": np.array([3.0], np.float32), "b": np.array([4.0], np.float32)})
    5.0
    """
    return math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values()))


def clipped(gradients: Arrays, most: float) -> tuple[dict[str, Array], float]:
    """Gradients whose norm is at most `most`, and the norm that they had.

    Raises:
        NotFinite: an entry.

    >>> clipped({"a": np.array([3.0, 4.0], np.float32)}, 2.5)
    ({'a': array([1.5, 2. ], dtype=float32)}, 5.0)
    """
    found = norm(gradients)
    if not math.isfinite(found):
        raise NotFinite(f"expected finite gradients, found a norm of {found}; lower the learning rate")
    if found <= most:
        return dict(gradients), found
    return {name: g * np.float32(most / found) for name, g in gradients.items()}, found


def scaled_rate(rate: float, batch: int, reference: int) -> float:
    """The rate for a batch, from one that suits another: it grows with the square root.

    >>> scaled_rate(0.1, 1024, 256)
    0.2
    """
    return rate * math.sqrt(batch / reference)


def passes(epochs: float, batch: int, reference: int) -> float:
    """How many passes over the rows take as many steps as `epochs` did with the reference batch.

    >>> passes(3, 1024, 256)
    12.0
    """
    return epochs * batch / reference
