from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quant.blocks import Blocks, dequantize_blocks, quantize_blocks
from quant.hqq import NORM, Zeros, quantize_hqq
from quant.loss import error
from tests.quant.nodes import gaussian

FORMS: list[tuple[int, Zeros]] = [(4, "none"), (4, "whole"), (4, "float"), (8, "none"), (8, "whole")]
BLOCK = 32


def costs(w: npt.NDArray[np.float32], blocks: Blocks) -> npt.NDArray[np.float64]:
    """Sum |w - w'|^p of each block: what is made small."""
    difference = np.abs(dequantize_blocks(blocks).astype(np.float64) - w)
    return np.asarray(np.sum(difference.reshape(len(w), -1, BLOCK) ** NORM, axis=-1))


def by_rounding(w: npt.NDArray[np.float32], bits: int, zeros: Zeros) -> Blocks:
    """The same kind of grid from the ends of each block."""
    if zeros != "float":
        return quantize_blocks(w, bits, BLOCK, zeros == "none")
    part = w.reshape(len(w), -1, BLOCK).astype(np.float64)
    low, high = part.min(axis=-1), part.max(axis=-1)
    scale = ((high - low) / (2**bits - 1)).astype(np.float32)
    zero = (-low / scale).astype(np.float32)
    q = np.clip(np.rint(part / scale[..., None] + zero[..., None]), 0, 2**bits - 1).astype(np.uint8)
    return Blocks(q.reshape(w.shape), scale, zero, bits, BLOCK, symmetric=False)


def least_of_all(w: npt.NDArray[np.float32], bits: int, zeros: Zeros) -> npt.NDArray[np.float64]:
    """The least cost of each block over a fine list of grids: what the half-quadratic steps look for."""
    first = by_rounding(w, bits, zeros)
    found = []
    for k in np.linspace(-0.6, 0.6, 601):
        scale = first.scale.astype(np.float64) * (1.0 if zeros == "float" else 1.0 + k)
        zero = first.zero.astype(np.float64) + (k if zeros == "float" else 0.0)
        part = w.reshape(len(w), -1, BLOCK).astype(np.float64)
        q = np.clip(np.rint(part / scale[..., None] + zero[..., None]), 0, 2**bits - 1)
        found.append(np.sum(np.abs(scale[..., None] * (q - zero[..., None]) - part) ** NORM, axis=-1))
    return np.asarray(np.min(found, axis=0))


@pytest.mark.parametrize(("bits", "zeros"), FORMS)
def test_no_block_is_worse_than_by_rounding(bits: int, zeros: Zeros) -> None:
    """Each block costs at most what rounding costs it, and with 4 bits the sum is clearly less."""
    w = gaussian(300, 4 * BLOCK, seed=1)
    mine, rounded = costs(w, quantize_hqq(w, bits, BLOCK, zeros)), costs(w, by_rounding(w, bits, zeros))
    assert np.all(mine <= rounded * (1 + 1e-3))
    if bits == 4:
        assert np.mean(mine / rounded) < 0.97


@pytest.mark.parametrize(("zeros", "share"), [("none", 0.15), ("whole", 0.4), ("float", 0.4)])
def test_steps_gain_part_of_what_the_best_grid_would(zeros: Zeros, share: float) -> None:
    """They cost no less than the best of 601 grids per block, gain a part of it, and no decibel is paid for that."""
    w = gaussian(200, 4 * BLOCK, seed=2)
    found, other = quantize_hqq(w, 4, BLOCK, zeros), by_rounding(w, 4, zeros)
    mine, rounded = float(np.sum(costs(w, found))), float(np.sum(costs(w, other)))
    best = float(np.sum(least_of_all(w, 4, zeros)))
    assert best < mine < rounded - share * (rounded - best)
    assert error(w, dequantize_blocks(found)).sqnr_db > error(w, dequantize_blocks(other)).sqnr_db


@pytest.mark.parametrize("zeros", ["none", "whole", "float"])
def test_the_size_of_weights_changes_nothing(zeros: Zeros) -> None:
    """2^k W has the integers and zero points of W, and 2^k times its scales."""
    w = gaussian(20, 2 * BLOCK, seed=3)
    one = quantize_hqq(w, 4, BLOCK, zeros)
    for k in (-30, 20):
        other = quantize_hqq(w * np.float32(2.0**k), 4, BLOCK, zeros)
        np.testing.assert_array_equal(one.q, other.q)
        np.testing.assert_array_equal(one.zero, other.zero)
        np.testing.assert_array_equal(one.scale * np.float32(2.0**k), other.scale)


@pytest.mark.parametrize(("bits", "zeros"), FORMS)
def test_zeros_and_constants_are_kept(bits: int, zeros: Zeros) -> None:
    """A block of zeros, of numbers below the normal ones, or of one constant is restored as by rounding."""
    w = np.zeros((3, 64), np.float32)
    w[0, 32:], w[1], w[2] = 1e-44, 0.3, -7.0
    blocks = quantize_hqq(w, bits, BLOCK, zeros)
    assert np.all(np.abs(blocks.scale) > 0)
    restored = dequantize_blocks(blocks)
    np.testing.assert_allclose(restored[0], np.zeros(64), atol=1e-37)
    np.testing.assert_allclose(restored[1:], w[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "bits", "zeros", "words"),
    [
        (np.zeros((1, 32)), 8, "float", "expected 4 bits with float zero points, found 8"),
        (np.zeros((1, 32)), 4, "half", "expected zero points none, whole or float, found 'half'"),
        (np.full((1, 32), np.nan), 4, "none", "found NaN or infinity"),
        (np.zeros((1, 33)), 4, "none", "choose a smaller block"),
    ],
)
def test_what_has_no_such_form_is_refused(weight: npt.ArrayLike, bits: int, zeros: Zeros, words: str) -> None:
    """Float zero points of 8 bits, unknown kinds, NaN, and blocks that do not divide: each in words."""
    with pytest.raises(ValueError, match=words):
        quantize_hqq(weight, bits, BLOCK, zeros)
