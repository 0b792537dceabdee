from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from quant import variants
from quant.variants import QUANTILES, Flip, angles_between, class_angles, decisions, margins_of, turn


def drawn(samples: int = 200, classes: int = 5, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and the same with noise that flips some."""
    rng = np.random.default_rng(7)
    exact = rng.standard_normal((samples, classes))
    return exact, exact + noise * rng.standard_normal((samples, classes))


def degrees(u: np.ndarray, v: np.ndarray) -> float:
    """The angle of two vectors from their cosine."""
    return math.degrees(math.acos(float(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)), -1, 1))))


def test_flips_and_margins_are_those_of_a_loop() -> None:
    """Sorting each row by hand finds the same samples, classes and margins, in the same order."""
    exact, variant = drawn()
    found = decisions(exact, variant)
    flips, margins = [], []
    for i, (a, b) in enumerate(zip(exact.tolist(), variant.tolist(), strict=True)):
        first, second = (sorted(((z, -j) for j, z in enumerate(row)), reverse=True) for row in (a, b))
        margins.append([first[0][0] - first[1][0], second[0][0] - second[1][0]])
        if first[0][1] != second[0][1]:
            flips.append(Flip(i, -first[0][1], -second[0][1], margins[-1][0], margins[-1][1]))
    assert 10 < len(flips) < 150
    assert list(found.flips) == flips
    assert (found.samples, found.classes, found.angles) == (200, 5, None)
    for at, ours in enumerate((found.exact_margins, found.variant_margins)):
        ordered = sorted(m[at] for m in margins)
        for q, value in zip(QUANTILES, ours, strict=True):
            below = math.floor(q * 199)
            part = q * 199 - below
            assert math.isclose(value, ordered[below] * (1 - part) + ordered[below + 1] * part, rel_tol=1e-12)


def test_a_tie_is_no_flip() -> None:
    """Equal largest logits have the first class in both nets and a margin of zero."""
    found = decisions([[1.0, 1.0, 0.0]], [[2.0, 2.0, 0.0]])
    assert (found.flips, found.exact_margins[2]) == ((), 0.0)
    assert margins_of([[5.0, 5.0]]).tolist() == [0.0]


def test_class_angles_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned, nearest and mean angles agree with a loop over classes, also in several blocks."""
    monkeypatch.setattr(variants, "BLOCK_ROWS", 4)
    rng = np.random.default_rng(8)
    w = rng.standard_normal((11, 6))
    v = w + 0.2 * rng.standard_normal(w.shape)
    found = class_angles(w, v)
    turned = [degrees(a, b) for a, b in zip(w, v, strict=True)]
    pairs = [[degrees(a, b) for a, b in itertools.combinations(each, 2)] for each in (w, v)]
    wanted = [sum(turned) / 11, max(turned), min(pairs[0]), min(pairs[1]), sum(pairs[0]) / 55, sum(pairs[1]) / 55]
    assert dataclasses.astuple(found) == pytest.approx(tuple(wanted), rel=1e-7)


def test_a_vocabulary_has_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more classes than may be paired, only how far each has turned is told; classes of zeros count nowhere."""
    w = np.vstack([np.eye(3), np.zeros((1, 3))])
    assert class_angles(w, w).nearest_exact == pytest.approx(90.0)
    monkeypatch.setattr(variants, "MOST_CLASSES", 2)
    found = class_angles(w, w)
    assert (found.turned_most, found.nearest_exact, found.apart_variant) == (0.0, None, None)


def test_small_angles_keep_their_digits() -> None:
    """An angle of 1e-9 is found, where a cosine in float64 is 1; opposites are 180 degrees apart."""
    found = angles_between([[1.0, 0.0], [1.0, 1.0]], [[2.0, 2e-9], [-3.0, -3.0]])
    np.testing.assert_allclose(found, [math.degrees(1e-9), 180.0], rtol=1e-9)


def test_outputs_without_classes_are_compared_by_their_angle() -> None:
    """Median and largest over samples, length left out; rows that are zero have no angle."""
    exact = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    variant = np.array([[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    found = turn(exact.reshape(4, 2, 1), variant.reshape(4, 2, 1))
    assert (found.samples, round(found.median, 9), round(found.most, 9)) == (3, 45.0, 90.0)


WRONG = {
    "shapes": (lambda: decisions(np.zeros((2, 3)), np.zeros((2, 4))), "of one shape, found"),
    "one class": (lambda: decisions(np.zeros((2, 1)), np.zeros((2, 1))), "two classes at least"),
    "nobody": (lambda: decisions(np.zeros((0, 3)), np.zeros((0, 3))), "one sample"),
    "not a number": (lambda: decisions([[0.0, np.nan]], [[0.0, 1.0]]), "finite logits, found NaN"),
    "weights": (lambda: class_angles(np.zeros((2, 3)), np.zeros((3, 2))), "of one shape, found"),
    "no direction": (lambda: class_angles(np.zeros((2, 3)), np.ones((2, 3))), "a direction for some class"),
    "outputs": (lambda: turn(np.zeros((2, 3)), np.zeros((3, 2))), "of one shape, found"),
    "silence": (lambda: turn(np.zeros((2, 3)), np.ones((2, 3))), "not zero, found none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_compared_is_said(case: str) -> None:
    """Shapes, counts and values that make no sense end in a sentence."""
    attempt, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        attempt()
