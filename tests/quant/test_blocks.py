from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto
from onnxruntime.capi import _pybind_state as runtime

from quant.blocks import (
    SIZES,
    Blocks,
    dequantize_blocks,
    linear_zero_points,
    pack_blocks,
    quantize_blocks,
    unpack_blocks,
)
from quant.hqq import quantize_hqq
from quant.loss import error
from tests.quant.nodes import Array, gaussian, run_node, uint4

# (bits, block, symmetric)
FORMS = list(itertools.product((4, 8), SIZES, (True, False)))
# one, an odd number, and an even number of blocks: zero points are packed two to a byte
COUNTS = (1, 3, 4)


def oracle(blocks: Blocks) -> npt.NDArray[np.float64]:
    """s (q - z), entry by entry, in float64."""
    out = np.empty(blocks.q.shape)
    for i, j in np.ndindex(*out.shape):
        at = i, j // blocks.block
        out[i, j] = float(blocks.scale[at]) * (float(blocks.q[i, j]) - float(blocks.zero[at]))
    return out


def multiplied(x: npt.NDArray[np.float32], blocks: Blocks, level: int = 1) -> npt.NDArray[np.float32]:
    """x W^T by the runtime's MatMulNBits."""
    packed = pack_blocks(blocks)
    rows, columns = blocks.q.shape
    return run_node(
        "MatMulNBits",
        {"x": x},
        {"q": packed.values, "s": packed.scales, "z": packed.zero_points},
        {"K": columns, "N": rows, "bits": blocks.bits, "block_size": blocks.block, "accuracy_level": level},
    )


@pytest.mark.parametrize(("bits", "block", "symmetric"), FORMS)
def test_no_weight_moves_by_more_than_half_a_step(bits: int, block: int, symmetric: bool) -> None:
    """Restored weights are within half a step; symmetric ones within one where the far end is cut off."""
    w = gaussian(1030, 2 * block)
    blocks = quantize_blocks(w, bits, block, symmetric)
    restored = dequantize_blocks(blocks)
    step = np.repeat(np.abs(blocks.scale), block, axis=1)
    difference = np.abs(restored.astype(np.float64) - w) / step
    cut = (blocks.q == 2**bits - 1) if symmetric else np.zeros(w.shape, bool)
    assert np.max(difference[~cut]) <= 0.5 + 1e-4
    assert np.max(difference[cut], initial=0) <= 1 + 1e-4
    assert (blocks.q.shape, blocks.scale.shape, blocks.zero.shape) == (w.shape, (1030, 2), (1030, 2))


@pytest.mark.parametrize(("bits", "block", "symmetric"), FORMS)
def test_grids_are_those_of_the_runtime(bits: int, block: int, symmetric: bool) -> None:
    """onnxruntime's own quantizer chooses the same scales and zero points, and the same integers but for ties."""
    w = gaussian(33, 3 * block, seed=1)
    mine = pack_blocks(quantize_blocks(w, bits, block, symmetric))
    values, scales = np.zeros_like(mine.values), np.zeros_like(mine.scales)
    zeros = np.zeros((33, (3 * bits + 7) // 8), np.uint8)
    theirs = {4: runtime.quantize_matmul_4bits, 8: runtime.quantize_matmul_8bits}[bits]
    theirs(values, np.ascontiguousarray(w.T), scales, zeros, block, 33, 3 * block, symmetric)
    np.testing.assert_allclose(mine.scales, scales, rtol=1e-6)
    other = unpack_blocks(type(mine)(values, scales, None if symmetric else zeros, bits))
    # unpacked: it fills an odd end with 8, which nobody reads
    np.testing.assert_array_equal(unpack_blocks(mine).zero, other.zero)
    steps = np.abs(unpack_blocks(mine).q.astype(int) - other.q)
    # it multiplies by the inverse of the scale, and rounds half away from zero
    assert np.max(steps) <= 1
    assert np.mean(steps > 0) < 2e-3


@pytest.mark.parametrize(("bits", "block", "symmetric"), FORMS)
def test_the_runtime_multiplies_by_the_restored_weight(bits: int, block: int, symmetric: bool) -> None:
    """MatMulNBits over the packed bytes is the product with s (q - z) in float64."""
    for count in COUNTS:
        w = gaussian(5, count * block, seed=count)
        blocks = quantize_blocks(w, bits, block, symmetric)
        for rows in (1, 7):
            x = np.random.default_rng(rows).standard_normal((rows, w.shape[1])).astype(np.float32)
            expected = x.astype(np.float64) @ oracle(blocks).T
            size = np.abs(x).astype(np.float64) @ np.abs(oracle(blocks)).T
            assert np.all(np.abs(multiplied(x, blocks) - expected) <= 1e-5 * size)


def test_the_runtime_takes_float_zero_points_with_4_bits() -> None:
    """Float zero points, which half-quadratic steps give, mean s (q - z) to MatMulNBits as well."""
    blocks = quantize_hqq(gaussian(5, 96, seed=4), 4, 32, "float")
    x = np.random.default_rng(0).standard_normal((3, 96)).astype(np.float32)
    expected = x.astype(np.float64) @ oracle(blocks).T
    size = np.abs(x).astype(np.float64) @ np.abs(oracle(blocks)).T
    assert blocks.zero.dtype == np.float32
    assert np.all(np.abs(multiplied(x, blocks) - expected) <= 1e-5 * size)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_the_runtime_dequantizes_the_same_bytes(symmetric: bool, count: int) -> None:
    """DequantizeLinear on uint4 with explicit zero points restores what `dequantize_blocks` does, bit for bit."""
    blocks = quantize_blocks(gaussian(7, 32 * count, seed=5), 4, 32, symmetric)
    parts: dict[str, Array | TensorProto | None] = {
        "q": uint4("q", (7, 32 * count), pack_blocks(blocks).values),
        "s": blocks.scale,
        "z": uint4("z", (7, count), linear_zero_points(blocks)),
    }
    theirs = run_node("DequantizeLinear", {}, parts, {"axis": 1, "block_size": 32}, domain="")
    np.testing.assert_array_equal(theirs, dequantize_blocks(blocks))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 4).map(lambda n: n * 16)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    st.sampled_from([4, 8]),
    st.booleans(),
)
def test_any_finite_weight_is_packed_unpacked_and_restored(
    w: npt.NDArray[np.float32], bits: int, symmetric: bool
) -> None:
    """Unpacking gives back what was packed, nothing is NaN, and no entry errs by more than one step of its block."""
    blocks = quantize_blocks(w, bits, 16, symmetric)
    again = unpack_blocks(pack_blocks(blocks))
    for mine, other in ((blocks.q, again.q), (blocks.scale, again.scale), (blocks.zero, again.zero)):
        np.testing.assert_array_equal(mine, other)
    assert (again.bits, again.block, again.symmetric) == (bits, 16, symmetric)
    restored = dequantize_blocks(blocks).astype(np.float64)
    step = np.repeat(np.abs(blocks.scale).astype(np.float64), 16, axis=1)
    assert np.all(np.abs(restored - w) <= step * (1 + 1e-4))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_and_constants_are_kept(bits: int, symmetric: bool) -> None:
    """A block of zeros restores to zeros with a scale that readers may divide by; a constant one to its constant."""
    w = np.zeros((3, 64), np.float32)
    w[1], w[2] = 0.3, -7.0
    w[0, 32:] = 1e-44
    blocks = quantize_blocks(w, bits, 32, symmetric)
    assert np.all(np.abs(blocks.scale) > 0)
    restored = dequantize_blocks(blocks)
    np.testing.assert_array_equal(restored[0], np.zeros(64))
    np.testing.assert_allclose(restored[1:], w[1:], rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_noise_is_that_of_a_uniform_step(bits: int) -> None:
    """Theory for a step of s: noise s^2/12; Gaussian weights lose just that, and symmetric ones little more."""
    w = np.random.default_rng(6).standard_normal((256, 512)).astype(np.float32)
    for symmetric, slack in ((False, 0.1), (True, 0.35)):
        blocks = quantize_blocks(w, bits, 32, symmetric)
        expected = -10 * math.log10(float(np.mean(blocks.scale.astype(np.float64) ** 2)) / 12)
        assert abs(error(w, dequantize_blocks(blocks)).sqnr_db - expected) < slack


def test_bytes_are_counted_as_stored() -> None:
    """Four bits in blocks of 32 with zero points take 4 + 32/32 + 4/32 bits per weight."""
    packed = pack_blocks(quantize_blocks(gaussian(8, 256), 4, 32, symmetric=False))
    assert packed.bytes == 8 * 256 * (4 + 1 + 4 / 32) / 8


@pytest.mark.parametrize(
    ("weight", "bits", "block", "words"),
    [
        (np.zeros(32), 4, 32, "expected a matrix"),
        (np.full((1, 32), np.nan), 4, 32, "found NaN or infinity"),
        (np.full((1, 32), -np.inf), 4, 32, "found NaN or infinity"),
        (np.full((1, 32), 3e38), 4, 32, "rescale the layer"),
        (np.zeros((2, 48)), 4, 32, r"multiple of the block of 32, found shape \(2, 48\)"),
        (np.zeros((0, 32)), 4, 32, "found shape"),
        (np.zeros((1, 32)), 3, 32, "expected 4 or 8 bits, found 3"),
        (np.zeros((1, 512)), 4, 512, "expected a block of 16, 32, 64 or 128, found 512"),
    ],
)
def test_what_cannot_be_cut_into_blocks_is_refused(weight: npt.ArrayLike, bits: int, block: int, words: str) -> None:
    """Vectors, NaN, infinity, huge numbers, blocks that do not divide or that runtimes get wrong: each in words."""
    with pytest.raises(ValueError, match=words):
        quantize_blocks(weight, bits, block)


def test_float_zero_points_are_refused_where_they_cannot_be_read() -> None:
    """DequantizeLinear has integers only."""
    with pytest.raises(ValueError, match="which DequantizeLinear cannot take"):
        linear_zero_points(quantize_hqq(gaussian(1, 32), 4, 32, "float"))
