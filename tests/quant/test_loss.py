from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from quant.blocks import dequantize_blocks, quantize_blocks
from quant.loss import error, output_error
from tests.quant.nodes import gaussian


def test_outputs_are_compared_in_float64() -> None:
    """Largest, relative, signal to noise and cosine of x W^T agree with their formulas, in parts and leading axes."""
    w = gaussian(7, 32)
    v = dequantize_blocks(quantize_blocks(w))
    x = np.random.default_rng(0).standard_normal((3, 700, 32)).astype(np.float32)
    y, z = (x.reshape(-1, 32).astype(np.float64) @ a.astype(np.float64).T for a in (w, v))
    found = output_error(w, v, x)
    relative = float(np.linalg.norm(z - y) / np.linalg.norm(y))
    assert math.isclose(found.largest, float(np.max(np.abs(z - y))), rel_tol=1e-12)
    assert math.isclose(found.relative, relative, rel_tol=1e-12)
    assert math.isclose(found.sqnr_db, -20 * math.log10(relative), rel_tol=1e-12)
    cosine = float(np.vdot(y, z) / (np.linalg.norm(y) * np.linalg.norm(z)))
    assert math.isclose(found.cosine, cosine, rel_tol=1e-12)


def test_large_inputs_count_for_more() -> None:
    """The same error of a weight is lost in outputs only as far as its input is fed."""
    w, v = np.array([[1.0, 1.0]]), np.array([[1.0, 1.1]])
    assert output_error(w, v, [[5.0, 0.0]]).sqnr_db == math.inf
    assert output_error(w, v, [[0.0, 5.0]]).relative > error(w, v).relative


def test_the_angle_is_that_of_vectors() -> None:
    """Multiples have cosine 1, opposites -1, strangers 0; zeros are like zeros and unlike anything else."""
    w = np.array([[3.0, 4.0]])
    assert error(w, 2 * w).cosine == 1.0
    assert error(w, -w).cosine == -1.0
    assert abs(error(w, np.array([[4.0, -3.0]])).cosine) < 1e-12
    assert error(0 * w, 0 * w).cosine == 1.0
    assert error(w, 0 * w).cosine == error(0 * w, w).cosine == 0.0


def test_noise_without_signal_is_infinite() -> None:
    """A matrix of zeros that comes back as something else has lost all there is."""
    found = error([[0.0]], [[1.0]])
    assert (found.relative, found.sqnr_db) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("v", "x", "words"),
    [
        (np.ones((3, 2)), np.ones((1, 2)), r"expected a restored weight of shape \(2, 2\), found \(3, 2\)"),
        (np.ones((2, 2)), np.ones((1, 3)), "expected calibration rows of 2 numbers"),
        (np.ones((2, 2)), np.ones((0, 2)), "at least one calibration row"),
        (np.ones((2, 2)), np.full((1, 2), np.nan), "found NaN or infinity"),
    ],
)
def test_what_does_not_belong_together_is_refused(v: npt.ArrayLike, x: npt.ArrayLike, words: str) -> None:
    """Shapes that differ, no rows, NaN: each in words."""
    with pytest.raises(ValueError, match=words):
        output_error(np.ones((2, 2)), v, x)


def test_weights_of_other_shapes_are_not_broadcast() -> None:
    """A row against a matrix is a mistake, not a comparison with every row."""
    with pytest.raises(ValueError, match=r"shape \(2, 2\), found \(1, 2\)"):
        error(np.ones((2, 2)), np.ones((1, 2)))
