from __future__ import annotations

import subprocess
import sys

import bitsandbytes.functional
import numpy as np
import numpy.typing as npt
import pytest
import torch

from quant.blocks import dequantize_blocks, quantize_blocks
from quant.bnb import nest_scales, quantize_codes
from quant.codes import BLOCKS_AT_ONCE, SIZES, TABLES, Codes, Kind, dequantize_codes, dynamic_tree, restore_scales
from quant.loss import error
from tests.quant.nodes import gaussian
from tests.quant.test_codes import KINDS, SHAPES, of_runtime


def nearest(w: npt.NDArray[np.float32], kind: Kind, block: int) -> npt.NDArray[np.float64]:
    """Each entry's nearest number of the table times its block's largest magnitude, in float64."""
    flat, table = w.astype(np.float64).reshape(-1), TABLES[kind].astype(np.float64)
    out = np.empty(flat.shape)
    for start in range(0, flat.size, block):
        part = flat[start : start + block]
        grid = table * np.max(np.abs(part))
        out[start : start + block] = grid[np.argmin(np.abs(part[:, None] - grid), axis=1)]
    return out.reshape(w.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_weight_takes_the_nearest_number(shape: tuple[int, int], block: int, kind: Kind) -> None:
    """Restored weights are a plain search's; FP4 alone decides by rounded thresholds, close to the middle."""
    w = gaussian(*shape, seed=1)
    restored = dequantize_codes(quantize_codes(w, kind, block)).astype(np.float64)
    best = nearest(w, kind, block)
    assert np.all(np.abs(restored - w) <= np.abs(best - w) + 2e-3 * np.max(np.abs(w)))
    if kind == "nf4":
        np.testing.assert_allclose(restored, best, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_runtime(kind: Kind) -> None:
    """onnxruntime's own quantizer packs the same bytes and scales, but for ties."""
    w = gaussian(60, 100, seed=2)
    mine, theirs = quantize_codes(w, kind, 64), of_runtime(w, kind, 64)
    np.testing.assert_array_equal(mine.scales, theirs.scales)
    # it writes a small negative weight as -0, the other as 0
    assert np.mean(dequantize_codes(mine) != dequantize_codes(theirs)) < 1e-3


def test_tables_are_those_of_bitsandbytes() -> None:
    """NF4, FP4 and the dynamic tree are the numbers that its packages are read with."""
    for kind in KINDS:
        theirs = bitsandbytes.functional.get_4bit_type(kind, device="cpu").numpy()
        np.testing.assert_array_equal(TABLES[kind], theirs)
    np.testing.assert_allclose(dynamic_tree(), bitsandbytes.functional.create_dynamic_map().numpy(), rtol=1e-6)


def test_nested_scales_are_those_of_bitsandbytes() -> None:
    """Codes, steps and offset equal its double quantization, and its way back gives the same scales."""
    w = gaussian(100, 300, seed=3)
    codes = quantize_codes(w, "nf4", 64)
    nested = nest_scales(codes.scales)
    packed, state = bitsandbytes.functional.quantize_4bit(
        torch.from_numpy(w), blocksize=64, quant_type="nf4", compress_statistics=True
    )
    np.testing.assert_array_equal(packed.numpy().reshape(-1), codes.values)
    np.testing.assert_array_equal(state.absmax.numpy(), nested.values)
    np.testing.assert_array_equal(state.state2.absmax.numpy(), nested.steps)
    theirs = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    np.testing.assert_allclose(restore_scales(nested), theirs.numpy(), atol=1e-6 * float(np.max(codes.scales)))


def test_formats_lose_what_the_literature_says() -> None:
    """On Gaussian weights with blocks of 64: NF4 0.092, FP4 0.122; nesting the scales costs next to nothing."""
    w = np.random.default_rng(4).standard_normal((512, 512)).astype(np.float32)
    lost = {kind: error(w, dequantize_codes(quantize_codes(w, kind, 64))).relative for kind in KINDS}
    assert abs(lost["nf4"] - 0.0915) < 0.002
    assert abs(lost["fp4"] - 0.122) < 0.003
    codes = quantize_codes(w, "nf4", 64)
    nested = Codes(codes.values, restore_scales(nest_scales(codes.scales)), codes.shape, "nf4", 64)
    assert error(w, dequantize_codes(nested)).relative < 1.01 * lost["nf4"]
    # a finer block of plain integers is as good as NF4
    assert error(w, dequantize_blocks(quantize_blocks(w, 4, 32, symmetric=False))).relative < lost["nf4"]


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_constants_are_kept(kind: Kind) -> None:
    """Zeros restore to zeros and a constant to itself; weights below the normal numbers to nothing larger."""
    w = np.zeros((3, 64), np.float32)
    w[1], w[2] = -0.3, 1e-44
    restored = dequantize_codes(quantize_codes(w, kind, 64))
    np.testing.assert_array_equal(restored[:2], w[:2])
    assert np.max(np.abs(restored[2])) <= np.float32(1e-44)


@pytest.mark.parametrize("scales", [np.zeros(5), np.full(300, 2.0), np.ones(1)])
def test_equal_scales_are_nested_without_loss(scales: npt.NDArray[np.float64]) -> None:
    """No difference from the mean: nothing is divided by 0."""
    given = scales.astype(np.float32)
    np.testing.assert_array_equal(restore_scales(nest_scales(given)), given)


def test_large_weights_are_taken_in_parts() -> None:
    """More blocks than are taken at once, the last one short: as if each part were alone."""
    w = np.random.default_rng(5).standard_normal((BLOCKS_AT_ONCE * 2 + 1, 17)).astype(np.float32)
    codes = quantize_codes(w, "nf4", 32)
    first = quantize_codes(w.reshape(-1)[None, : BLOCKS_AT_ONCE * 32], "nf4", 32)
    last = quantize_codes(w.reshape(-1)[None, BLOCKS_AT_ONCE * 32 :], "nf4", 32)
    np.testing.assert_array_equal(codes.values, np.concatenate([first.values, last.values]))
    np.testing.assert_array_equal(codes.scales, np.concatenate([first.scales, last.scales]))


@pytest.mark.parametrize(
    ("weight", "kind", "block", "words"),
    [
        (np.ones((1, 64)), "int3", 64, "expected nf4 or fp4, found 'int3'"),
        (np.ones((1, 64)), "nf4", 16, "expected a block of 32, 64, 128 or 256, found 16"),
        (np.ones(64), "nf4", 64, "expected a matrix"),
        (np.ones((0, 64)), "nf4", 64, r"expected a weight with entries, found shape \(0, 64\)"),
        (np.full((1, 64), np.inf), "fp4", 64, "found NaN or infinity"),
    ],
)
def test_what_has_no_codes_is_refused(weight: npt.ArrayLike, kind: Kind, block: int, words: str) -> None:
    """Unknown kinds, blocks that one side lacks, vectors, nothing at all, infinity: each in words."""
    with pytest.raises(ValueError, match=words):
        quantize_codes(weight, kind, block)


def test_nothing_is_printed_when_the_door_opens() -> None:
    """bitsandbytes warns on import of a kernel that nobody asked for; a user of these formats does not see it."""
    asked = "from quant.bnb import quantize_codes; quantize_codes([[1.0]])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""


def test_without_bitsandbytes_one_sentence_says_what_to_install() -> None:
    """In a process that cannot import it, these formats are refused in words."""
    asked = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "from console.errors import MissingDependency\n"
        "from quant.bnb import quantize_codes\n"
        "try: quantize_codes([[1.0]])\n"
        "except MissingDependency as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=120)
    assert "expected bitsandbytes for NF4 and FP4, found none" in done.stdout
    assert "install edgequilt[export]" in done.stdout
