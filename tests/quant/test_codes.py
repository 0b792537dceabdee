from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnxruntime.capi import _pybind_state as runtime

from quant.codes import (
    BLOCKS_AT_ONCE,
    QUANT_TYPES,
    SIZES,
    TABLES,
    Codes,
    Kind,
    Nested,
    dequantize_codes,
    restore_scales,
)
from tests.quant.nodes import gaussian, run_node

KINDS: tuple[Kind, ...] = ("nf4", "fp4")
# blocks that run on from row to row, a short last block, an odd number of entries, less than a block
SHAPES = [(8, 64), (5, 48), (7, 33), (64, 96), (3, 5)]


def of_runtime(w: npt.NDArray[np.float32], kind: Kind, block: int) -> Codes:
    """Codes as onnxruntime's own quantizer chooses them."""
    values, scales = np.zeros((w.size + 1) // 2, np.uint8), np.zeros(-(-w.size // block), np.float32)
    runtime.quantize_matmul_bnb4(values, w.copy(), scales, block, QUANT_TYPES[kind], w.shape[0], w.shape[1])
    return Codes(values, scales, (w.shape[0], w.shape[1]), kind, block)


def oracle(codes: Codes) -> npt.NDArray[np.float64]:
    """table[code] scale, entry by entry, in float64."""
    out = np.empty(codes.shape)
    for i in range(out.size):
        code = codes.values[i // 2] >> 4 if i % 2 == 0 else codes.values[i // 2] & 15
        out.flat[i] = float(TABLES[codes.kind][code]) * float(codes.scales[i // codes.block])
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_are_read_as_the_runtime_reads_them(shape: tuple[int, int], block: int, kind: Kind) -> None:
    """Restored weights are the oracle's, and MatMulBnb4 multiplies by them, whatever the block divides."""
    codes = of_runtime(gaussian(*shape), kind, block)
    expected = oracle(codes)
    np.testing.assert_allclose(dequantize_codes(codes), expected, rtol=1e-6)
    x = np.random.default_rng(0).standard_normal((3, shape[1])).astype(np.float32)
    attributes = {"K": shape[1], "N": shape[0], "block_size": block, "quant_type": QUANT_TYPES[kind]}
    y = run_node("MatMulBnb4", {"x": x}, {"q": codes.values, "s": codes.scales}, attributes)
    size = np.abs(x).astype(np.float64) @ np.abs(expected).T
    assert np.all(np.abs(y - x.astype(np.float64) @ expected.T) <= 1e-5 * size)


def test_large_tables_are_read_in_parts() -> None:
    """More blocks than are read at once, the last one short: the seam shows nowhere."""
    drawn = np.random.default_rng(1)
    shape = (BLOCKS_AT_ONCE * 2 + 1, 17)
    count = shape[0] * shape[1]
    scales = drawn.random(-(-count // 32)).astype(np.float32)
    codes = Codes(drawn.integers(0, 256, (count + 1) // 2, np.uint8), scales, shape, "nf4", 32)
    assert len(scales) > BLOCKS_AT_ONCE
    halves = np.stack([codes.values >> 4, codes.values & 15], axis=-1).reshape(-1)[:count]
    np.testing.assert_array_equal(
        dequantize_codes(codes).reshape(-1), TABLES["nf4"][halves] * np.repeat(scales, 32)[:count]
    )


def test_bytes_are_counted_as_stored() -> None:
    """Blocks of 64 take 4.5 bits per weight; with nested scales 4 + 8/64 + 32/(64 256), and an offset."""
    codes = of_runtime(gaussian(64, 256), "nf4", 64)
    assert codes.bytes == 64 * 256 * 4.5 / 8
    nested = Nested(np.zeros(256, np.uint8), np.zeros(1, np.float32), np.float32(0))
    assert nested.bytes == 256 + 4 + 4
    assert len(restore_scales(nested)) == 256
