"""What a variant of a classifier does to its decisions: margins, the samples that flip, the classes' directions.

Li, Liu, Yu, Kailkhura, Cao, Diffenderfer, Bremer and Pascucci, "Understanding Robustness Lottery: A Geometric Visual
Comparative Analysis of Neural Network Pruning Approaches", arXiv:2206.07918v2, compare pruned nets by the geometry
of the last layer: a logit is

    z_j = w_j' f + b_j = |w_j| |f| cos t_j + b_j

so that a sample's class hangs on the *class directions* w_j / |w_j|, on the angles t_j and on the length |f|; the
smallest distance to another class is its margin. Here the variant is a quantized net, and the exact one says which
class is right: a *flip* is a sample that the two put into different classes, the paper's fragile samples. Margins
are those of the logits, z_1st - z_2nd, since |w_i - w_j| is not known where the weights are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_CLASSES = 4096  # above this angles between all pairs of classes are not formed: a vocabulary has 10^9 of them
BLOCK_ROWS = 512

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Flip:
    """A sample that the variant puts into another class, with the margin of each decision, z_1st - z_2nd >= 0."""

    sample: int
    exact_class: int
    variant_class: int
    exact_margin: float
    variant_margin: float


@dataclass(frozen=True)
class ClassAngles:
    """Class directions of the exact net and of the variant, in degrees.

    Attributes:
        turned_mean: between a class's direction in the one and in the other, the mean over classes.
        turned_most: the largest of them.
        nearest_exact: the smallest angle between two classes of the exact net; None of one class, or of more than
            `MOST_CLASSES`.
        nearest_variant: the same of the variant.
        apart_exact: the mean angle between two classes of the exact net.
        apart_variant: the same of the variant.
    """

    turned_mean: float
    turned_most: float
    nearest_exact: float | None = None
    nearest_variant: float | None = None
    apart_exact: float | None = None
    apart_variant: float | None = None


@dataclass(frozen=True)
class Decisions:
    """A variant beside the exact net on some samples.

    Attributes:
        samples: how many.
        classes: how many.
        flips: all samples that changed their class, in order; those with equal largest logits have the first class.
        quantiles: of the margins, see `QUANTILES`.
        exact_margins: z_1st - z_2nd of the exact net at those quantiles.
        variant_margins: the same of the variant.
        angles: of the class directions, where the weights were given.
    """

    samples: int
    classes: int
    flips: tuple[Flip, ...]
    exact_margins: tuple[float, ...]
    variant_margins: tuple[float, ...]
    quantiles: tuple[float, ...] = QUANTILES
    angles: ClassAngles | None = None


@dataclass(frozen=True)
class Turn:
    """Angles in degrees between what two nets say of the same samples, where there are no classes.

    `median` and `most` are over samples, `samples` is how many had both outputs different from zero.
    """

    samples: int
    median: float
    most: float


def decisions(
    exact: npt.ArrayLike,
    variant: npt.ArrayLike,
    exact_weight: npt.ArrayLike | None = None,
    variant_weight: npt.ArrayLike | None = None,
) -> Decisions:
    """Compare logits, and class directions where weights are given.

    Args:
        exact: logits [n, classes] of the exact net.
        variant: logits [n, classes] of the variant.
        exact_weight: [classes, features], what the exact net multiplies features with.
        variant_weight: the same of the variant, as it is dequantized.

    Raises:
        ValueError: shapes do not agree, there is no sample or one class only, or a logit is not finite.

    >>> found = decisions([[2.0, 1.0], [0.0, 0.25]], [[2.0, 1.5], [0.5, 0.25]])
    >>> found.flips
    (Flip(sample=1, exact_class=1, variant_class=0, exact_margin=0.25, variant_margin=0.25),)
    """
    tally = Tally()
    tally.add(exact, variant)
    angles = None
    if exact_weight is not None and variant_weight is not None:
        angles = class_angles(exact_weight, variant_weight)
    return tally.result(angles)


class Tally:
    """The same, of logits that come in parts and are not kept."""

    def __init__(self) -> None:
        self.samples = 0
        self._classes = 0
        self._flips: list[Flip] = []
        self._margins: tuple[list[Float64], list[Float64]] = ([], [])

    def add(self, exact: npt.ArrayLike, variant: npt.ArrayLike, numbers: Sequence[int] | None = None) -> None:
        """Add logits [n, classes] of both nets.

        Args:
            exact: of the exact net.
            variant: of the variant.
            numbers: of the samples; by default they go on counting.

        Raises:
            ValueError: see `decisions`.
        """
        e, v = (_logits(z) for z in (exact, variant))
        if e.shape != v.shape or self._classes not in (0, e.shape[1]):
            raise ValueError(f"expected logits of both nets of one shape, found {e.shape} and {v.shape}")
        self._classes = e.shape[1]
        classes, margins = [z.argmax(axis=1) for z in (e, v)], [margins_of(z) for z in (e, v)]
        for i in map(int, np.flatnonzero(classes[0] != classes[1])):
            number = self.samples + i if numbers is None else numbers[i]
            chosen = int(classes[0][i]), int(classes[1][i])
            self._flips.append(Flip(number, *chosen, float(margins[0][i]), float(margins[1][i])))
        for kept, found in zip(self._margins, margins, strict=True):
            kept.append(found)
        self.samples += len(e)

    def result(self, angles: ClassAngles | None = None) -> Decisions:
        """What was added.

        Raises:
            ValueError: nothing was.
        """
        if not self._margins[0]:
            raise ValueError("expected logits of at least one sample, found none")
        count = sum(len(part) for part in self._margins[0])
        exact, variant = (_spread(np.concatenate(kept)) for kept in self._margins)
        return Decisions(count, self._classes, tuple(self._flips), exact, variant, angles=angles)


def _spread(margins: Float64) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(margins, QUANTILES))


def margins_of(logits: npt.ArrayLike) -> Float64:
    """z_1st - z_2nd of each sample: logits [n, classes], float64 [n].

    >>> margins_of([[3.0, 1.0, 2.5], [1.0, 1.0, 0.0]]).tolist()
    [0.5, 0.0]
    """
    z = _logits(logits)
    top = np.partition(z, z.shape[1] - 2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def class_angles(exact: npt.ArrayLike, variant: npt.ArrayLike) -> ClassAngles:
    """Angles of class directions, from weights [classes, features]; a row of zeros has none and is left out.

    Raises:
        ValueError: shapes do not agree, or no class has a direction in both.

    >>> found = class_angles([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]])
    >>> round(found.turned_mean, 3), round(found.turned_most, 3), round(found.nearest_variant, 3)
    (22.5, 45.0, 45.0)
    """
    e, v = (np.asarray(w, np.float64) for w in (exact, variant))
    if e.shape != v.shape or e.ndim != 2:
        raise ValueError(f"expected weights [classes, features] of one shape, found {e.shape} and {v.shape}")
    kept = (np.linalg.norm(e, axis=1) > 0) & (np.linalg.norm(v, axis=1) > 0)
    if not kept.any():
        raise ValueError("expected weights with a direction for some class, found zeros")
    e, v = e[kept], v[kept]
    turned = angles_between(e, v)
    pairs = [_pairs(w) for w in (e, v)] if 1 < len(e) <= MOST_CLASSES else [(None, None)] * 2
    return ClassAngles(float(turned.mean()), float(turned.max()), pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1])


def turn(exact: npt.ArrayLike, variant: npt.ArrayLike) -> Turn:
    """Angles between outputs [n, ...] of two nets.

    Raises:
        ValueError: shapes do not agree, or no sample has outputs that are not zero.

    >>> turn([[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).most
    90.0
    """
    e, v = (np.asarray(a, np.float64) for a in (exact, variant))
    if e.shape != v.shape or not e.ndim:
        raise ValueError(f"expected outputs of both nets of one shape, found {e.shape} and {v.shape}")
    e, v = e.reshape(len(e), -1), v.reshape(len(v), -1)
    kept = (np.linalg.norm(e, axis=1) > 0) & (np.linalg.norm(v, axis=1) > 0)
    if not kept.any():
        raise ValueError("expected at least one sample whose outputs are not zero, found none")
    found = angles_between(e[kept], v[kept])
    return Turn(int(kept.sum()), float(np.median(found)), float(found.max()))


def angles_between(a: npt.ArrayLike, b: npt.ArrayLike) -> Float64:
    """Degrees between rows [n, d] of two matrices: float64 [n].

    From 2 atan2(|u - v|, |u + v|) of unit vectors (Kahan, "How futile are mindless assessments of roundoff", 2006,
    section 12): the cosine of a small angle has lost its digits.

    >>> angles_between([[1.0, 0.0]], [[1.0, 1e-9]]).round(15).tolist()
    [5.729578e-08]
    """
    u, v = (_unit(np.asarray(w, np.float64)) for w in (a, b))
    return np.asarray(np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))))


def _pairs(w: Float64) -> tuple[float, float]:
    """The smallest and the mean angle between two of the rows."""
    unit, count = _unit(w), len(w)
    smallest, total = np.inf, 0.0
    for start in range(0, count, BLOCK_ROWS):
        block = np.clip(unit[start : start + BLOCK_ROWS] @ unit.T, -1.0, 1.0)
        angles = np.degrees(np.arccos(block))
        later = np.arange(count)[None, :] > np.arange(start, start + len(block))[:, None]
        smallest, total = min(smallest, float(angles[later].min(initial=np.inf))), total + float(angles[later].sum())
    return smallest, total / (count * (count - 1) / 2)


def _unit(w: Float64) -> Float64:
    return np.asarray(w / np.linalg.norm(w, axis=1, keepdims=True))


def _logits(logits: npt.ArrayLike) -> Float64:
    z = np.asarray(logits, np.float64)
    if z.ndim != 2 or not len(z) or z.shape[1] < 2:
        raise ValueError(f"expected logits [samples, classes] of one sample and two classes at least, found {z.shape}")
    if not np.all(np.isfinite(z)):
        raise ValueError("expected finite logits, found NaN or infinity")
    return z
