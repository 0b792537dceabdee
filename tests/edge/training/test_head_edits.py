"""The choice among edits of a head: what it keeps, what it reaches, and what it says of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.training.head_edits import Outputs, Wish, found, leads_of, usual_lead

FEATURES, CLASSES = 24, 4


class World:
    """Rows of four clusters, the head of their means, and an input between two clusters with a part of its own."""

    def __init__(self, seed: int = 0, rows: int = 400, own: float = 1.0) -> None:
        drawn = np.random.default_rng(seed)
        centres = drawn.normal(size=(CLASSES, FEATURES))
        self.labels = (np.arange(rows) % CLASSES).astype(np.int64)
        self.weight = centres.T / np.sqrt(FEATURES)
        self.known = self.outputs(centres[self.labels] + 0.4 * drawn.normal(size=(rows, FEATURES)))
        self.special = own * drawn.normal(size=FEATURES)
        self.near, self.other = centres[1] + self.special, centres[2] + self.special
        self.drawn = drawn

    def outputs(self, features: NDArray[np.float64]) -> Outputs:
        return Outputs(features.astype(np.float32), (features @ self.weight).astype(np.float32))

    def wish(self, label: int, apart: list[float], bound: float = 0.001, rank: int = 2) -> Wish:
        """The input, and paraphrases so far from it."""
        asked = [self.near, *(self.near + far * self.drawn.normal(size=FEATURES) for far in apart)]
        return Wish(self.outputs(np.stack(asked)), label, self.known, self.labels, bound, rank)

    def answers(self, outputs: Outputs, change: NDArray[np.float64]) -> NDArray[np.int64]:
        """Computed in another order than the module does."""
        whole = outputs.features.astype(np.float64) @ (self.weight + change)
        return np.asarray(whole.argmax(axis=1), np.int64)


def test_an_answer_changes_and_no_other() -> None:
    """The input gets its label by a change of rank 1, all calibration rows keep theirs, and near ones follow it."""
    world = World()
    wish = world.wish(3, [0.05, 0.05, 0.1])
    assert world.answers(wish.asked, np.zeros((FEATURES, CLASSES))).tolist() == [1, 1, 1, 1]

    best = found(wish)

    change = best.edit.product()
    assert (best.right, best.within, best.lost, best.fitted, best.paraphrases_right) == (True, True, 0, False, 3)
    assert best.edit.a.shape == (FEATURES, 1)
    assert world.answers(wish.asked, change).tolist() == [3, 3, 3, 3]
    before = world.answers(world.known, np.zeros_like(change))
    lost = (before == world.labels) & (world.answers(world.known, change) != world.labels)
    assert not lost.any()


def test_paraphrases_are_fitted_only_where_the_input_does_not_reach_them() -> None:
    """Paraphrases that had a third answer are reached by fitting them too, within the rank, and it is said."""
    world = World()
    asked = world.outputs(np.stack([world.near, world.other, world.other + 0.1 * world.drawn.normal(size=FEATURES)]))
    wish = Wish(asked, 3, world.known, world.labels, 0.001, 3)
    assert world.answers(asked, np.zeros((FEATURES, CLASSES))).tolist() == [1, 2, 2]

    best = found(wish)

    assert best.fitted
    assert (best.right, best.paraphrases_right) == (True, 2)
    assert best.edit.a.shape[1] <= 3
    assert world.answers(wish.asked, best.edit.product()).tolist() == [3, 3, 3]


def test_what_cannot_be_kept_is_said_and_not_hidden() -> None:
    """An input that is a calibration row's twin takes its like along: it is right, and not within the bound."""
    world = World(own=0.0)
    best = found(world.wish(3, []))

    assert best.right
    assert not best.within
    change = best.edit.product()
    before, after = (world.answers(world.known, c) == world.labels for c in (np.zeros_like(change), change))
    assert best.lost == int(np.sum(before & ~after)) > 0


def test_leads_are_those_of_the_label() -> None:
    """By how much a row's label leads the largest other, and the usual lead is the median over right rows."""
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 4.0, 2.0]], np.float32)
    labels = np.array([0, 1, 1])
    assert leads_of(logits, labels).tolist() == [2.0, -3.0, 2.0]
    outputs = Outputs(np.zeros((3, 2), np.float32), logits)
    assert usual_lead(Wish(outputs, 0, outputs, labels, 0.0, 1)) == 2.0
    assert usual_lead(Wish(outputs, 0, outputs, np.array([2, 0, 0]), 0.0, 1)) == 1.0


def test_what_is_right_already_gets_a_change_of_nothing() -> None:
    """Where the input leads by every margin, the factors are one column of 0, and no answer changes."""
    world = World()
    sure = Outputs(world.known.features[:1], world.known.logits[:1] + 100 * np.eye(1, CLASSES, 0, dtype=np.float32))
    best = found(Wish(sure, 0, world.known, world.labels, 0.0, 2))

    assert (best.right, best.within, best.lost) == (True, True, 0)
    assert best.edit.a.shape == (FEATURES, 1)
    assert not best.edit.product().any()
