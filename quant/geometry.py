"""Where a net's features lie between its classes, and what a variant does to that: angle, length, distance.

Li et al., "Understanding Robustness Lottery: A Geometric Visual Comparative Analysis of Neural Network Pruning
Approaches", arXiv:2206.07918v2, section on geometric metrics. From z_j = |w_j| |f| cos t_j + b_j a sample has

    angle     t_y between its features f and the direction w_y of its class: an angle that grows leads to other classes
    length    |f|: a length that shrinks costs confidence, not the class
    distance  min over j != y of (z_y - z_j) / |w_y - w_j|, to the nearest border of its class; below zero beyond it

Here the class y is the one that the exact net chooses, so that a distance below zero is a sample that flipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.variants import angles_between

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Medians over samples, beside the class that the exact net chooses.

    Attributes:
        angle_exact: degrees between features and the direction of the class, in the exact net.
        angle_variant: the same in the variant.
        length: |features| of the variant, relative to the exact net's.
        distance_exact: to the nearest border of the class, in the exact net.
        distance_variant: the same in the variant.
    """

    angle_exact: float
    angle_variant: float
    length: float
    distance_exact: float
    distance_variant: float


@dataclass(frozen=True)
class Layer:
    """The last layer of a net on some samples: what enters, what leaves, and its weight.

    `features` [n, d], `logits` [n, classes], `weight` [classes, d].
    """

    features: npt.ArrayLike
    logits: npt.ArrayLike
    weight: npt.ArrayLike


def geometry(exact: Layer, variant: Layer) -> Geometry | None:
    """Compare the last layers of two nets; None where features or weights are zeros, or classes have no border.

    Raises:
        ValueError: shapes do not agree.

    >>> first = Layer([[2.0, 0.0]], [[2.0, 0.0]], np.eye(2))
    >>> found = geometry(first, Layer([[1.0, 1.0]], [[1.0, 1.0]], np.eye(2)))
    >>> round(found.angle_variant, 6), round(found.length, 6), found.distance_variant
    (45.0, 0.707107, 0.0)
    """
    (f, z, w), (g, y, v) = (
        [np.asarray(a, np.float64) for a in (n.features, n.logits, n.weight)] for n in (exact, variant)
    )
    if (
        f.shape != g.shape
        or z.shape != y.shape
        or w.shape != v.shape
        or (len(z), *w.shape) != (*f.shape[:1], z.shape[1], f.shape[1])
    ):
        raise ValueError(
            f"expected features [n, d], logits [n, classes] and weights [classes, d] of both nets, found "
            f"{f.shape}, {z.shape}, {w.shape} and {g.shape}, {y.shape}, {v.shape}"
        )
    chosen = z.argmax(axis=1)
    lengths = [np.linalg.norm(a, axis=1) for a in (f, g, w[chosen], v[chosen])]
    told = np.all([length > 0 for length in lengths], axis=0)
    if not told.any():
        return None
    c = chosen[told]
    figures = (
        angles_between(f[told], w[c]),
        angles_between(g[told], v[c]),
        lengths[1][told] / lengths[0][told],
        distances(z[told], w, c),
        distances(y[told], v, c),
    )
    medians = [float(np.median(one)) for one in figures]
    return Geometry(*medians) if np.isfinite(medians).all() else None


def distances(logits: npt.ArrayLike, weight: npt.ArrayLike, classes: npt.ArrayLike) -> Float64:
    """How far features are from the nearest border of a class: float64 [n], below zero beyond it.

    A class with the same weight has no border, and is left out; with no border at all the distance is infinite.

    Args:
        logits: [n, classes].
        weight: [classes, d].
        classes: int [n], of which class the border is.

    >>> distances([[3.0, 0.0], [0.0, 3.0]], [[3.0, 0.0], [0.0, 4.0]], [0, 0]).tolist()
    [0.6, -0.6]
    """
    z, w, chosen = np.asarray(logits, np.float64), np.asarray(weight, np.float64), np.asarray(classes, np.int64)
    out = np.empty(len(z))
    for i, y in enumerate(chosen):
        apart = np.linalg.norm(w[y] - w, axis=1)
        borders = apart > 0
        out[i] = np.min((z[i, y] - z[i, borders]) / apart[borders], initial=np.inf)
    return out
