from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from quant.geometry import Layer, distances, geometry


def layers() -> tuple[Layer, Layer]:
    """A last layer with biases on 9 samples, and a noisy one."""
    rng = np.random.default_rng(11)
    f, w, b = rng.standard_normal((9, 6)), rng.standard_normal((4, 6)), rng.standard_normal(4)
    g, v = 0.8 * f + 0.2 * rng.standard_normal(f.shape), w + 0.1 * rng.standard_normal(w.shape)
    return Layer(f, f @ w.T + b, w), Layer(g, g @ v.T + b, v)


def test_angles_lengths_and_distances_are_those_of_a_loop() -> None:
    """Cosines, norms and borders written out for each sample give the same medians."""
    exact, variant = layers()
    rows = []
    for i in range(9):
        y = int(np.argmax(np.asarray(exact.logits)[i]))
        row = []
        for f, z, w in (map(np.asarray, dataclasses.astuple(one)) for one in (exact, variant)):
            cosine = f[i] @ w[y] / (np.linalg.norm(f[i]) * np.linalg.norm(w[y]))
            near = min((z[i, y] - z[i, j]) / np.linalg.norm(w[y] - w[j]) for j in range(4) if j != y)
            row.append([math.degrees(math.acos(cosine)), float(np.linalg.norm(f[i])), near])
        rows.append([row[0][0], row[1][0], row[1][1] / row[0][1], row[0][2], row[1][2]])
    found = geometry(exact, variant)
    assert found is not None
    assert dataclasses.astuple(found) == pytest.approx(tuple(np.median(rows, axis=0)))


def test_a_distance_is_how_far_features_must_move() -> None:
    """Moved by it towards the nearest class, both logits are equal; beyond the border it is below zero."""
    exact = layers()[0]
    f, z, w = (np.asarray(a) for a in dataclasses.astuple(exact))
    chosen = z.argmax(axis=1)
    bias = z[0] - f[0] @ w.T
    for i, d in enumerate(distances(z, w, chosen)):
        y, reached = chosen[i], []
        for j in set(range(4)) - {int(y)}:
            way = (w[j] - w[y]) / np.linalg.norm(w[j] - w[y])
            at = (f[i] + d * way) @ w.T + bias
            reached.append(at[y] - at[j])
        assert min(reached) == pytest.approx(0, abs=1e-9)
        assert d > 0
    others = (chosen + 1) % 4
    assert (distances(z, w, others) < 0).all()


def test_classes_without_borders_have_no_geometry() -> None:
    """Equal weights, zeros as features and zeros as weights are left out; shapes that do not agree are a mistake."""
    ones = Layer(np.ones((2, 3)), np.zeros((2, 2)), np.ones((2, 3)))
    assert geometry(ones, ones) is None
    zeros = Layer(np.zeros((2, 3)), np.zeros((2, 2)), np.eye(2, 3))
    assert geometry(zeros, zeros) is None
    assert distances([[1.0, 0.0]], np.ones((2, 3)), [0])[0] == np.inf
    with pytest.raises(ValueError, match=r"expected features \[n, d\], logits \[n, classes\] and weights"):
        geometry(ones, Layer(np.ones((2, 4)), np.zeros((2, 2)), np.ones((2, 4))))
