from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from quant.blocks import Packed, linear_zero_points, quantize_blocks
from quant.loss import error
from quant.tables import ByteRows, PlainRows, Table, look_up, quantize_table
from tests.quant.nodes import Array, gaussian, run_node, uint4

IDS = np.array([[0, 6, 3], [2, 2, 5]], np.int64)
# (bits, symmetric)
FORMS = [(8, True), (4, True), (4, False)]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("blocks", [3, 4])
def test_rows_of_4_bits_are_those_that_the_runtime_gathers(blocks: int, symmetric: bool) -> None:
    """GatherBlockQuantized over the same bytes gives the same rows."""
    w = gaussian(7, 32 * blocks)
    table = quantize_table(w, 4, 32, symmetric)
    assert isinstance(table, Packed)
    zeros = linear_zero_points(quantize_blocks(w, 4, 32, symmetric))
    parts: dict[str, Array | TensorProto | None] = {
        "q": uint4("q", w.shape, table.values),
        "ids": IDS,
        "s": table.scales,
        "z": uint4("z", (7, blocks), zeros),
    }
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": 32}
    theirs = run_node("GatherBlockQuantized", {}, parts, attributes)
    np.testing.assert_array_equal(look_up(table, IDS), theirs)


def test_rows_of_8_bits_are_those_that_the_runtime_dequantizes() -> None:
    """DequantizeLinear along the rows, then a plain choice of them."""
    w = gaussian(2050, 48)
    table = quantize_table(w)
    assert isinstance(table, ByteRows)
    given: dict[str, Array | TensorProto | None] = {"q": table.values, "s": table.scales, "z": np.zeros(2050, np.int8)}
    theirs = run_node("DequantizeLinear", {}, given, {"axis": 0}, domain="")
    ids = np.array([2049, 0, 1024, 1023])
    np.testing.assert_array_equal(look_up(table, ids), theirs[ids])


@pytest.mark.parametrize(("bits", "symmetric"), FORMS)
def test_a_row_is_near_the_one_that_went_in(bits: int, symmetric: bool) -> None:
    """Each row by itself keeps its digits, however small it is beside the others."""
    w = gaussian(50, 64, seed=1)
    found = look_up(quantize_table(w, bits, 32, symmetric), np.arange(50))
    for row, restored in zip(w, found, strict=True):
        assert error(row[None], restored[None]).sqnr_db > {8: 35, 4: 14}[bits]


@pytest.mark.parametrize(("bits", "symmetric"), FORMS)
def test_mapped_tables_read_as_those_in_memory(bits: int, symmetric: bool, tmp_path: Path) -> None:
    """Arrays that lie in files give the same rows."""
    table = quantize_table(gaussian(40, 64, seed=2), bits, 64, symmetric)
    assert not isinstance(table, PlainRows)

    def mapped(name: str, array: Array) -> Array:
        np.save(tmp_path / f"{name}.npy", array)
        return np.asarray(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))

    values, scales = mapped("q", table.values), mapped("s", table.scales)
    again: Table = ByteRows(values, scales)
    if isinstance(table, Packed):
        again = Packed(values, scales, None if symmetric else mapped("z", np.asarray(table.zero_points)), 4)
    np.testing.assert_array_equal(look_up(again, IDS), look_up(table, IDS))


def test_bytes_are_a_quarter_and_less() -> None:
    """8 bits and a scale per row; 4 bits, a scale per 32 and half a byte of zero point."""
    w = gaussian(100, 64)
    assert quantize_table(w).bytes == 100 * (64 + 4)
    assert quantize_table(w, 4).bytes == 100 * (32 + 2 * 4 + 1)


def test_no_ids_are_no_rows() -> None:
    """An empty look-up has the width of the table."""
    assert look_up(quantize_table(gaussian(3, 32), 4), np.zeros((2, 0), np.int64)).shape == (2, 0, 32)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([3], "expected rows 0 to 2 of the table, found 3"),
        ([0, -1], "found -1"),
        ([0.5], "expected rows by whole numbers, found float64"),
    ],
)
def test_ids_that_are_no_rows_are_refused(ids: npt.ArrayLike, words: str) -> None:
    """Beyond the end, negative ones, and fractions: each in words."""
    for bits in (4, 8):
        with pytest.raises(ValueError, match=re.escape(words)):
            look_up(quantize_table(gaussian(3, 32), bits), ids)


@pytest.mark.parametrize(
    ("weight", "bits", "words"),
    [
        (np.zeros((3, 32)), 5, "expected a table of 4, 8 or 32 bits, found 5"),
        (np.zeros((3, 33)), 4, "choose a smaller block or another format"),
        (np.full((3, 32), np.nan), 4, "found NaN or infinity"),
        (np.full((3, 32), np.nan), 8, "found NaN or infinity"),
    ],
)
def test_what_is_no_such_table_is_refused(weight: npt.ArrayLike, bits: int, words: str) -> None:
    """Other bits, widths that blocks do not divide, NaN: each in words."""
    with pytest.raises(ValueError, match=words):
        quantize_table(weight, bits)
