from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quant.blocks import Blocks, dequantize_blocks, quantize_blocks
from quant.gptq import DAMPING, hessian, quantize_gptq
from quant.loss import output_error
from tests.quant.nodes import gaussian

Float64 = npt.NDArray[np.float64]


def fed(rows: int, columns: int, seed: int = 0) -> Float64:
    """Calibration rows as layers see them: correlated, some columns far larger than others."""
    drawn = np.random.default_rng(seed)
    mixed = drawn.standard_normal((rows, columns // 4)) @ drawn.standard_normal((columns // 4, columns))
    return np.asarray((mixed + 0.3 * drawn.standard_normal((rows, columns))) * 10.0 ** drawn.uniform(-1, 1, columns))


def by_least_squares(w: Float64, h: Float64, blocks: Blocks) -> npt.NDArray[np.int64]:
    """Algorithm 1 as section 3.1 derives it: after each column, the others are fitted anew by least squares.

    No Cholesky factor, no inverse that is updated: the free columns F minimise the quadratic form given the error of
    all fixed ones, w_F = w0_F - H_FF^-1 H_FD (w'_D - w0_D).
    """
    scale, zero = (np.repeat(a.astype(np.float64), blocks.block, axis=1) for a in (blocks.scale, blocks.zero))
    h = h + DAMPING * np.mean(np.diag(h)) * np.eye(len(h))
    order = list(np.argsort(-np.diag(h), kind="stable"))
    q, restored, now = np.zeros(w.shape, np.int64), np.zeros(w.shape), w.copy()
    for k, j in enumerate(order):
        level = np.clip(np.rint(now[:, j] / scale[:, j] + zero[:, j]), 0, 2**blocks.bits - 1)
        q[:, j], restored[:, j] = level, scale[:, j] * (level - zero[:, j])
        done, free = order[: k + 1], order[k + 1 :]
        if free:
            lost = restored[:, done] - w[:, done]
            now[:, free] = w[:, free] - np.linalg.solve(h[np.ix_(free, free)], h[np.ix_(free, done)] @ lost.T).T
    return q


@pytest.mark.parametrize(("bits", "block", "symmetric"), [(4, 32, True), (4, 16, False), (8, 64, True)])
def test_integers_are_those_of_least_squares(bits: int, block: int, symmetric: bool) -> None:
    """More columns than one lazy batch: integers equal those of a direct solution after every column."""
    w, h = gaussian(6, 192, seed=1), hessian(fed(400, 192), 192)
    mine = quantize_gptq(w, h, bits, block, symmetric)
    rounded = quantize_blocks(w, bits, block, symmetric)
    np.testing.assert_array_equal(mine.scale, rounded.scale)
    np.testing.assert_array_equal(mine.zero, rounded.zero)
    # a tie that falls to the other side changes what follows in its row
    same = np.mean(mine.q == by_least_squares(w.astype(np.float64), h, rounded), axis=1)
    assert np.median(same) == 1.0
    assert np.min(same) > 0.5


@pytest.mark.parametrize("symmetric", [True, False])
def test_outputs_lose_less_than_by_rounding(symmetric: bool) -> None:
    """On rows that were not seen, correlated inputs lose clearly less at the outputs."""
    w, x = gaussian(40, 128, seed=2), fed(1200, 128, seed=2)
    seen, other = x[:800], x[800:]
    mine = dequantize_blocks(quantize_gptq(w, hessian(seen, 128), 4, 32, symmetric))
    rounded = dequantize_blocks(quantize_blocks(w, 4, 32, symmetric))
    assert output_error(w, mine, other).relative < 0.7 * output_error(w, rounded, other).relative


def test_inputs_without_correlation_are_rounded() -> None:
    """With H a multiple of the identity nothing can be taken up: integers are those of rounding."""
    w = gaussian(9, 64, seed=3)
    np.testing.assert_array_equal(quantize_gptq(w, 3.0 * np.eye(64)).q, quantize_blocks(w).q)


def test_columns_that_were_fed_nothing_are_rounded() -> None:
    """Dead inputs keep their weights, and fewer rows than columns are enough."""
    w, x = gaussian(9, 64, seed=4), fed(20, 64, seed=4)
    x[:, 10:20] = 0
    mine, rounded = quantize_gptq(w, hessian(x, 64)), quantize_blocks(w)
    np.testing.assert_array_equal(mine.q[:, 10:20], rounded.q[:, 10:20])
    assert np.any(mine.q != rounded.q)


def test_rows_may_come_in_parts() -> None:
    """X^T X of parts, added up, is that of the whole; leading axes are rows."""
    x = fed(60, 32, seed=5).reshape(5, 12, 32)
    parts = hessian(x[3:], 32, before=hessian(x[:3], 32))
    flat = x.reshape(-1, 32)
    np.testing.assert_allclose(parts, flat.T @ flat, rtol=1e-12)


def test_zeros_stay_zero() -> None:
    """A row of zeros has nothing to take up, and no block divides by 0."""
    w = gaussian(3, 64, seed=6)
    w[1] = 0
    restored = dequantize_blocks(quantize_gptq(w, hessian(fed(99, 64), 64)))
    assert np.all(np.isfinite(restored))
    np.testing.assert_array_equal(restored[1], np.zeros(64))


@pytest.mark.parametrize(
    ("h", "words"),
    [
        (np.eye(16), r"expected X\^T X of shape \(32, 32\), found \(16, 16\)"),
        (np.full((32, 32), np.nan), "found NaN or infinity"),
        (np.triu(np.ones((32, 32))), "expected a symmetric"),
        (np.zeros((32, 32)), "not all zero"),
        (-np.eye(32), "negative directions"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(h: npt.ArrayLike, words: str) -> None:
    """Other shapes, NaN, asymmetry, zeros and negative directions: each in words."""
    with pytest.raises(ValueError, match=words):
        quantize_gptq(np.ones((2, 32)), h)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.ones((3, 31)), r"expected calibration rows of 32 numbers, found shape \(3, 31\)"),
        (np.ones(32), "expected calibration rows of 32 numbers"),
        (np.ones((0, 32)), "expected at least one calibration row, found none"),
        (np.full((1, 32), np.inf), "expected finite calibration rows"),
    ],
)
def test_calibration_rows_that_do_not_fit_are_refused(rows: npt.ArrayLike, words: str) -> None:
    """Wrong widths, no rows, infinity: each in words."""
    with pytest.raises(ValueError, match=words):
        hessian(rows, 32)
