from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.int8 import LIMIT, dequantize_rows, quantize_rows
from quant.loss import error

# odd sizes, single rows and columns, more rows than one block of the error measure
SHAPES = [(1, 1), (3, 5), (1, 1025), (7, 1), (2049, 3), (64, 64)]
# fp32 numbers of a size that scales can have; a scale below the normal numbers is another test
ROWS = st.lists(st.integers(-(2**24), 2**24).map(lambda n: n * 2.0**-40), min_size=1, max_size=40)


def matrix(rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Rows of very different size: what one scale for all would lose."""
    drawn = np.random.default_rng(seed)
    sizes = 10.0 ** drawn.uniform(-6, 4, (rows, 1))
    return (drawn.standard_normal((rows, columns)) * sizes).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_weight_moves_by_more_than_half_a_step(shape: tuple[int, int]) -> None:
    """Every restored weight is within half of its row's scale of the original."""
    w = matrix(*shape)
    q, s = quantize_rows(w)
    assert (q.dtype, q.shape) == (np.dtype(np.int8), shape)
    assert (s.dtype, s.shape) == (np.dtype(np.float32), shape[:1])
    difference = np.abs(dequantize_rows(q, s).astype(np.float64) - w)
    assert np.all(difference <= 0.5 * s[:, None] * (1 + 1e-5))


@pytest.mark.parametrize("shape", SHAPES)
def test_restored_weights_are_those_that_torch_makes_of_the_same_scales(shape: tuple[int, int]) -> None:
    """torch.fake_quantize_per_channel_affine restores the same weights."""
    w = matrix(*shape, seed=1)
    q, s = quantize_rows(w)
    zeros = torch.zeros(len(s), dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(w), torch.from_numpy(s), zeros, 0, -LIMIT, LIMIT
    ).numpy()
    steps = np.abs(theirs - dequantize_rows(q, s)) / s[:, None]
    # torch multiplies by the inverse of the scale: a quotient that ends in .5 may fall to the other side
    assert np.mean(steps > 0.01) < 1e-3
    assert np.max(steps) < 1.01


@given(ROWS)
def test_a_row_and_its_negative_are_each_others_negative(row: list[float]) -> None:
    """The range is symmetric: -w quantizes to -q with the same scale, and -128 never appears."""
    q, s = quantize_rows([row])
    minus_q, minus_s = quantize_rows([[-x for x in row]])
    assert np.array_equal(q, -minus_q)
    assert np.array_equal(s, minus_s)
    assert int(np.min(q)) >= -LIMIT


@given(ROWS)
def test_quantizing_twice_changes_nothing(row: list[float]) -> None:
    """Restored weights quantize to the same integers: the format has its own values as fixed points."""
    q, s = quantize_rows([row])
    again, _ = quantize_rows(dequantize_rows(q, s))
    assert np.array_equal(q, again)


def test_a_row_of_zeros_stays_zero() -> None:
    """A row without any weight, or with weights below fp32's normal numbers, restores to zeros, not NaN."""
    q, s = quantize_rows([[0.0, 0.0], [1e-44, 0.0]])
    assert np.all(s > 0)
    assert np.array_equal(dequantize_rows(q, s), np.zeros((2, 2), np.float32))


def test_the_error_is_measured_over_the_whole_matrix() -> None:
    """Largest, relative and signal to noise agree with float64 formulas on a matrix of several blocks."""
    w = matrix(2500, 17, seed=2)
    restored = dequantize_rows(*quantize_rows(w))
    found = error(w, restored)
    exact = w.astype(np.float64)
    relative = np.linalg.norm(restored - exact) / np.linalg.norm(exact)
    assert found.largest == np.max(np.abs(restored - exact))
    assert math.isclose(found.relative, relative, rel_tol=1e-12)
    assert math.isclose(found.sqnr_db, -20 * math.log10(relative), rel_tol=1e-12)


def test_gaussian_rows_keep_forty_decibels() -> None:
    """Theory for a uniform step of s: noise s^2/12; a Gaussian row of 4096 entries keeps over 40 dB."""
    w = np.random.default_rng(3).standard_normal((32, 4096)).astype(np.float32)
    q, s = quantize_rows(w)
    expected = 10 * math.log10(
        float(np.mean(w.astype(np.float64) ** 2)) / float(np.mean(s.astype(np.float64) ** 2) / 12)
    )
    found = error(w, dequantize_rows(q, s)).sqnr_db
    assert found > 40
    assert abs(found - expected) < 0.1


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1.0, 2.0], "expected a matrix"),
        (np.zeros((2, 2, 2)), "expected a matrix"),
        ([[1.0, math.nan]], "found NaN or infinity"),
        ([[math.inf, 0.0]], "found NaN or infinity"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(weight: npt.ArrayLike, words: str) -> None:
    """A vector, a cube, NaN and infinity are refused in words."""
    with pytest.raises(ValueError, match=words):
        quantize_rows(weight)
