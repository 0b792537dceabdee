"""Heads in closed form: which recipe wins, what becomes of classes without rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from console.errors import BadData
from edge.training.heads import RECIPES, Recipe, closed_head, held_back, smoothed
from edge.training.losses import cross_entropy
from wire.kinds.head import Head

CLASSES = 4
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def drawn(counts: list[int], seed: int = 0, features: int = 12, apart: float = 2.0) -> Rows:
    """Classes as round clouds with fixed means."""
    means = apart * np.random.default_rng(9).normal(size=(len(counts), features)) / np.sqrt(features)
    generator, labels = np.random.default_rng(seed), np.repeat(np.arange(len(counts)), counts)
    return (means[labels] + generator.normal(0, 0.5, (len(labels), features))).astype(np.float32), labels


def share(head: Head, rows: Rows) -> float:
    """Rows that a head gets right."""
    return float(np.mean((rows[0] @ head.weight + head.bias).argmax(axis=1) == rows[1]))


def test_unequal_classes_are_left_to_the_discriminants() -> None:
    """Where one class has most rows of the board, a uniform prior wins on rows of all classes, and so it is chosen."""
    x, y = drawn([400, 40, 40, 40], apart=1.2)
    both, ridge = closed_head(x, y, CLASSES), closed_head(x, y, CLASSES, recipes=["ridge"])
    fair = drawn([300] * 4, seed=1, apart=1.2)
    assert share(closed_head(x, y, CLASSES, recipes=["discriminants"]).head, fair) > share(ridge.head, fair) + 0.03
    assert both.kept_back == 104
    assert both.guessed == 80
    assert "80 by guessing" in both.sentences[0]


def test_the_better_recipe_is_taken() -> None:
    """The head of both is, bit for bit, that of the one which got more rows right that were kept back."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(200, 60)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    solved = {r: closed_head(x, y, 2, recipes=[r]) for r in RECIPES}
    both = closed_head(x, y, 2)
    assert both.right == max(s.right for s in solved.values())
    np.testing.assert_array_equal(both.head.weight, solved[both.recipe].head.weight)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_class_without_rows_is_never_chosen(recipe: Recipe) -> None:
    """Its logit is -10,000 whatever the features are, its probability is 0, and a sentence counts it."""
    x, y = drawn([20, 0, 20, 20])
    solved = closed_head(x, y, CLASSES, recipes=[recipe])
    logits = np.concatenate([x, 100 * x]) @ solved.head.weight + solved.head.bias
    assert (logits[:, 1] == -10_000).all()
    assert "1 of 4 classes have no rows and are never chosen." in solved.sentences
    assert share(solved.head, (x, y)) > 0.9


def test_the_head_of_the_winner_is_solved_from_all_rows() -> None:
    """After the choice nothing is kept back: weight and bias are the regularized series over all rows, in float64."""
    x, y = drawn([30, 30, 30, 30])
    solved = closed_head(x, y, CLASSES, recipes=["ridge"])
    centred, targets = x - x.mean(axis=0, dtype=np.float64), np.eye(CLASSES)[y] - 0.25
    weight, m = np.zeros((12, 4)), np.linalg.inv(centred.T @ centred + solved.strength * len(x) * np.eye(12))
    for _ in range(solved.order + 1):
        weight = weight + m @ (centred.T @ targets - centred.T @ centred @ weight)
    scale = float(np.sum(solved.head.weight * weight) / np.sum(weight**2))
    np.testing.assert_allclose(solved.head.weight, scale * weight, atol=1e-5)
    np.testing.assert_allclose(solved.head.bias, scale * (0.25 - x.mean(axis=0, dtype=np.float64) @ weight), atol=1e-4)


def test_rows_that_are_kept_back_are_of_every_class() -> None:
    """A fifth of each class, at least one where there are two, none of a class with one; the seed decides which."""
    labels = np.repeat(np.arange(4), [50, 5, 2, 1])
    back = held_back(labels, 0)
    assert np.bincount(labels[back], minlength=4).tolist() == [10, 1, 1, 0]
    np.testing.assert_array_equal(back, held_back(labels, 0))
    assert (back != held_back(labels, 1)).any()


def test_a_row_of_each_class_is_enough_for_a_head() -> None:
    """One row per class leaves nothing to compare: the head is solved all the same, and says so."""
    x, y = drawn([1, 1, 1, 1])
    solved = closed_head(x, y, CLASSES)
    assert (solved.kept_back, share(solved.head, (x, y))) == (0, 1.0)
    assert "none was kept back" in solved.sentences[0]


def test_logits_can_be_trained_against() -> None:
    """The softmax is neither flat nor saturated, though classes lie far apart and every row is right."""
    x, y = drawn([60] * 4, apart=20.0)
    for recipe in RECIPES:
        head = closed_head(x, y, CLASSES, recipes=[recipe]).head
        logits = (x @ head.weight + head.bias).astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert 0.8 < p[np.arange(len(y)), y].mean() < 0.999


def test_nothing_and_what_is_not_finite_are_refused() -> None:
    """No rows, and a row that is not a number: a sentence each."""
    with pytest.raises(BadData, match="found none"):
        closed_head(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 2)
    with pytest.raises(BadData, match="finite features"):
        closed_head(np.array([[np.nan]], np.float32), np.array([0]), 2)


def test_a_head_that_knows_little_says_so() -> None:
    """Where features say nothing of the class, probabilities are near those of guessing: the loss is hardly above."""
    generator = np.random.default_rng(7)
    x, y = generator.normal(size=(120, 12)).astype(np.float32), generator.integers(0, 4, 120)
    head = closed_head(x, y, CLASSES).head
    new, labels = generator.normal(size=(400, 12)).astype(np.float32), generator.integers(0, 4, 400)
    assert cross_entropy(new @ head.weight + head.bias, labels).mean() < np.log(4) + 0.1


def test_smoothed_labels_are_torchs() -> None:
    """The loss is torch's cross entropy with label smoothing."""
    generator = np.random.default_rng(8)
    logits, labels = generator.normal(size=(9, 5)).astype(np.float32), generator.integers(0, 5, 9)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), label_smoothing=0.05)
    assert smoothed(logits, labels) == pytest.approx(float(expected), rel=1e-5)


def test_a_direction_that_hardly_varies_makes_no_class_absent() -> None:
    """Features far from 0 with next to no spread give discriminants huge biases; the classes are there all the same."""
    x, y = drawn([60] * CLASSES)
    x = np.concatenate([x, 40 + 0.005 * x[:, :3]], axis=1).astype(np.float32)
    solved = closed_head(x, np.where(y == 3, 2, y), CLASSES, recipes=["discriminants"])
    logits = x @ solved.head.weight + solved.head.bias
    assert set(logits.argmax(axis=1)) == {0, 1, 2}
    assert solved.head.bias[3] == -10_000
    assert share(solved.head, (x, np.where(y == 3, 2, y))) > 0.8
