"""A head in closed form: ridge regression or discriminants, whichever is better on rows kept back.

Both are solved from the same sums, at once and without a rate. Ridge (`wire.ridge`, arXiv 2505.08129) has a
strength and an order, which are chosen on the rows kept back; the discriminants (`wire.discriminant`) have nothing to
choose, and their prior is uniform, so classes of unequal size do them no harm. Then the winner is solved again from
all rows.

Training of what lies below starts with such a head: through a head of zeros no gradient reaches an adapter, and none
comes from a softmax that is saturated. So logits get the scale with the least cross entropy on the rows kept back,
against labels of which 5 % are spread over all classes (Szegedy et al., arXiv 1512.00567, section 7): without that,
rows that are all right would want an infinite one. Which class is chosen does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.interface import Array
from edge.training.losses import cross_entropy
from wire import discriminant
from wire.discriminant import UNSEEN_BIAS
from wire.kinds.head import Head, Statistics, gather
from wire.philox import key_of, words
from wire.ridge import choose, head_of, spectrum
from wire.sums import mean_square, of_classes

Recipe = Literal["ridge", "discriminants"]
RECIPES: tuple[Recipe, ...] = ("discriminants", "ridge")  # of equals the first is taken
SCALES = tuple(2.0 ** (e / 2) for e in range(-16, 3))  # of the recipe's own
SMOOTHING = 0.05
STRENGTHS = tuple(10.0**e for e in range(-4, 4))  # of the mean square of a feature, for each row
ORDERS = (0, 1, 3)
KEPT_BACK = 5  # one row in so many
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Solved:
    """A head, and how it came about.

    Attributes:
        head: for the features that it was solved from.
        recipe: which won.
        strength: of ridge, for each row.
        order: of ridge.
        right: rows kept back that it got right before it was solved again from all rows.
        kept_back: how many there were; 0: there were too few rows to keep some back.
        guessed: how many of them the most frequent class alone would have got right.
        sentences: the same in words.
    """

    head: Head
    recipe: Recipe
    strength: float
    order: int
    right: int
    kept_back: int
    guessed: int
    sentences: tuple[str, ...]


def closed_head(
    features: Array,
    labels: NDArray[np.int64],
    classes: int,
    *,
    recipes: Sequence[Recipe] = RECIPES,
    seed: int = 0,
) -> Solved:
    """The head of some rows.

    Args:
        features: [n, D].
        labels: [n], each from 0 to classes - 1. A class without rows gets weight 0 and a bias of -10,000: it is never
            chosen.
        classes: how many the model knows.
        recipes: what to try.
        seed: of which rows are kept back.

    Raises:
        BadData: no rows, or features that are not finite.
    """
    if not len(labels):
        raise BadData("expected rows to solve a head from, found none; add data first")
    if not np.isfinite(features).all():
        raise BadData("expected finite features, found others; look for broken rows in the data")
    back = held_back(labels, seed)
    if not back.any():
        return _without(features, labels, classes, recipes[0])
    fit, held = (_sums(features[rows], labels[rows], classes) for rows in (~back, back))
    ridge = _strength(fit, held) if "ridge" in recipes else (0.0, 0)
    tried = {r: _judged(_head(r, fit, ridge), fit.count > 0, features[back], labels[back]) for r in recipes}
    best = min(recipes, key=lambda recipe: (-tried[recipe].right, tried[recipe].loss))
    head = _scaled(_head(best, fit + held, ridge), (fit + held).count > 0, tried[best].scale)
    guessed = int(np.sum(labels[back] == np.bincount(labels[~back], minlength=classes).argmax()))
    right, count = tried[best].right, int(back.sum())
    said = _sentences(best, tried, ridge, count, guessed, _missing(fit + held))
    return Solved(head, best, *ridge, right, count, guessed, said)


def held_back(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which rows are kept back: a fifth of each class, drawn by Philox; of fewer than five at most one of several.

    >>> held_back(np.zeros(10, np.int64), 0).sum(), held_back(np.arange(10), 0).sum()
    (np.int64(2), np.int64(0))
    """
    back = np.zeros(len(labels), bool)
    order = np.argsort(words(key_of("kept back", seed), 0, len(labels)), kind="stable")
    for label in np.unique(labels):
        own = order[labels[order] == label]
        back[own[: max(len(own) // KEPT_BACK, int(len(own) > 1))]] = True
    return back


def _sums(features: Array, labels: NDArray[np.int64], classes: int) -> Statistics:
    size = features.shape[1]
    total = Statistics(np.zeros(classes), np.zeros((classes, size)), np.zeros((size, size)))
    for at in range(0, len(labels), BLOCK_ROWS):
        total = total + gather(features[at : at + BLOCK_ROWS], labels[at : at + BLOCK_ROWS], classes)
    return total


def _strength(fit: Statistics, held: Statistics) -> tuple[float, int]:
    """Strength for each row, and order: the best on the rows kept back."""
    sums = of_classes(fit)
    unit = mean_square(sums)  # a sum over rows
    mu, order = choose(spectrum(sums), of_classes(held), [unit * s for s in STRENGTHS], ORDERS)
    return mu / sums.rows, order


def _head(recipe: Recipe, sums: Statistics, ridge: tuple[float, int]) -> Head:
    if recipe == "discriminants":
        return _centred(discriminant.solve(sums), sums.count > 0)
    strength, order = ridge
    return head_of(sums, strength * of_classes(sums).rows, order)


@dataclass(frozen=True)
class _Judged:
    """Rows that are right, and the scale of the least mean loss with that loss."""

    right: int
    scale: float
    loss: float


def _centred(head: Head, seen: NDArray[np.bool_]) -> Head:
    """The same answers from smaller numbers: the mean over classes with rows is taken off weights and biases.

    Where features hardly vary in some direction, discriminants have biases far below that of a class without rows.
    """
    weight, bias = (np.asarray(a, np.float64).copy() for a in (head.weight, head.bias))
    weight[:, seen] -= weight[:, seen].mean(axis=1, keepdims=True)
    bias[seen] -= bias[seen].mean()
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def _judged(head: Head, seen: NDArray[np.bool_], features: Array, labels: NDArray[np.int64]) -> _Judged:
    logits = features @ head.weight + head.bias
    right = int(np.sum(logits.argmax(axis=1) == labels))
    known = seen[labels]
    logits, named = logits[known][:, seen], np.cumsum(seen)[labels[known]] - 1
    losses = [(smoothed(np.asarray(scale * logits, np.float32), named), scale) for scale in SCALES]
    loss, scale = min(losses)
    return _Judged(right, scale, loss)


def smoothed(logits: Array, labels: NDArray[np.int64]) -> float:
    """The mean cross entropy [] of logits [n, classes] against labels [n] of which 5 % are spread over all classes.

    >>> round(smoothed(np.zeros((1, 4), np.float32), np.array([2])), 4)
    1.3863
    """
    rows = np.arange(len(labels))
    spread = logits[rows, labels] - logits.mean(axis=1, dtype=np.float64)
    return float(np.mean(cross_entropy(logits, labels) + SMOOTHING * spread))


def _scaled(head: Head, seen: NDArray[np.bool_], scale: float) -> Head:
    bias = np.where(seen, scale * head.bias, UNSEEN_BIAS)
    return Head(np.asarray(scale * head.weight, np.float32), bias.astype(np.float32))


def _without(features: Array, labels: NDArray[np.int64], classes: int, recipe: Recipe) -> Solved:
    """The head where no class has two rows: nothing can be compared."""
    sums = _sums(features, labels, classes)
    ridge = (mean_square(of_classes(sums)) / len(labels), 0)
    head = _head(recipe, sums, ridge)
    said = f"The head is solved from {len(labels)} rows by {recipe}; no class has two, so none was kept back."
    return Solved(head, recipe, *ridge, 0, 0, 0, (said, *_missing(sums)))


def _sentences(
    best: Recipe,
    tried: dict[Recipe, _Judged],
    ridge: tuple[float, int],
    count: int,
    guessed: int,
    missing: tuple[str, ...],
) -> tuple[str, ...]:
    found = " and ".join(f"{judged.right} by {recipe}" for recipe, judged in tried.items())
    how = f", of strength {ridge[0]:.3g} for each row and order {ridge[1]}" if best == "ridge" else ""
    said = f"The head is solved by {best}{how}: of {count} rows kept back {found} are right, {guessed} by guessing."
    return (said, *missing)


def _missing(sums: Statistics) -> tuple[str, ...]:
    absent = int(np.sum(sums.count == 0))
    return (f"{absent} of {len(sums.count)} classes have no rows and are never chosen.",) if absent else ()
