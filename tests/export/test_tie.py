"""Tied weights: found by their numbers, stored once, quantized once, counted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.cost import cost
from export.fold import freeze
from export.formats.rewrite import quantize_weights
from export.tie import tie_weights
from export.write import write_graphs
from tests.export.graphs import Builder
from tests.export.runtime import run

ROWS, WIDTH = 700, 96


def language_model(*, tied: bool = True, seed: int = 4) -> ir.Model:
    """ids [2, 5] through a table, one layer, and an output layer that is the table, transposed, or is not."""
    b = Builder(seed)
    ids = ir.val("ids", ir.DataType.INT64, ["batch", 5])
    b.graph.inputs.append(ids)
    table = b.weight("table", ROWS, WIDTH)
    assert table.const_value is not None
    last = table.const_value.numpy().T.copy() if tied else b.rng.standard_normal((WIDTH, ROWS)).astype(np.float32)
    output = ir.val("out.weight", const_value=ir.tensor(last, name="out.weight"))
    b.graph.register_initializer(output)
    full: list[int | str] = ["batch", 5, WIDTH]
    x = b.op("Gather", table, ids, shape=full, name="embedded")
    h = b.op("MatMul", x, b.weight("layer.weight", WIDTH, WIDTH), shape=full, name="hidden")
    bent = b.op("Tanh", h, shape=full, name="bent")
    return b.model(logits=b.op("MatMul", bent, output, shape=["batch", 5, ROWS], name="logits"))


FEEDS = {"ids": np.random.default_rng(1).integers(0, ROWS, (2, 5))}


def test_the_output_layer_reads_the_table() -> None:
    """The copy is gone and the numbers are the same."""
    model = language_model()
    expected = run(freeze(language_model(seed=4), 2), FEEDS)["logits"]
    frozen = freeze(model, 2)
    assert "out.weight" not in frozen.graph.initializers
    np.testing.assert_allclose(run(frozen, FEEDS)["logits"], expected, rtol=1e-6, atol=1e-6)
    table = model.graph.initializers["table"].const_value
    layer = model.graph.initializers["layer.weight"].const_value
    assert table is not None
    assert layer is not None
    by_hand = np.tanh(table.numpy()[FEEDS["ids"]] @ layer.numpy()) @ table.numpy().T
    np.testing.assert_allclose(expected, by_hand, rtol=1e-4, atol=1e-5)


def test_other_numbers_are_not_tied() -> None:
    """One different entry keeps the two apart."""
    model = language_model()
    tensor = model.graph.initializers["out.weight"].const_value
    assert tensor is not None
    changed = tensor.numpy().copy()
    changed[3, 600] += 1e-3
    model.graph.initializers["out.weight"].const_value = ir.tensor(changed, name="out.weight")
    assert "out.weight" in freeze(model, 2).graph.initializers
    assert tie_weights(freeze(language_model(tied=False), 2)) == []


@pytest.mark.parametrize("fmt", ["fp32", "int8"])
def test_it_is_stored_once(fmt: str, tmp_path: Path) -> None:
    """The weight file has one table, and int8 equals numpy with the dequantized table for both uses."""
    sizes = {}
    for tied in (True, False):
        model = freeze(language_model(tied=tied), 2)
        quantize_weights(model, fmt)
        write_graphs({f"{fmt}{tied}": model}, tmp_path, f"{tied}.bin")
        sizes[tied] = (tmp_path / f"{tied}.bin").stat().st_size
    assert sizes[False] - sizes[True] >= ROWS * WIDTH * (4 if fmt == "fp32" else 1)


def test_int8_uses_one_set_of_rows() -> None:
    """Looked up and multiplied, the table has the same integers and scales."""
    frozen = freeze(language_model(), 2)
    table = frozen.graph.initializers["table"].const_value
    layer = frozen.graph.initializers["layer.weight"].const_value
    assert table is not None
    assert layer is not None
    w = {"table": table.numpy(), "layer": layer.numpy()}
    scale = np.abs(w["table"]).max(axis=1, keepdims=True) / 127
    rows = np.round(w["table"] / scale) * scale
    columns = np.abs(w["layer"]).max(axis=0) / 127
    plain = np.round(w["layer"] / columns) * columns
    expected = np.tanh(rows[FEEDS["ids"]] @ plain) @ rows.T
    quantize_weights(frozen, "int8")
    np.testing.assert_allclose(run(frozen, FEEDS)["logits"], expected, rtol=1e-4, atol=1e-4)


def test_a_plan_counts_it_once_in_a_segment_and_twice_in_two() -> None:
    """The units of both users hold it, and a stretch over both has it once."""
    from devices.plan import Board, needs

    units = cost(freeze(language_model(), 2), 2, "serve").units
    board = Board("board", 1 << 30, "serve", "fp32", 2)
    plain = ROWS * WIDTH * 4
    [whole] = needs(units, board, (), 2)
    assert plain <= whole.weights < plain + 2 * WIDTH * WIDTH * 4
    last = next(i for i in range(len(units) - 1, -1, -1) if units[i].tied)
    apart = needs(units, board, (last,), 2)
    assert [need.weights >= plain for need in apart] == [True, True]


def test_a_product_reads_a_transposed_table_as_it_is() -> None:
    """A table that is too large to be folded is not transposed at every run, and is quantized once for both."""
    b = Builder(6)
    ids = ir.val("ids", ir.DataType.INT64, [2, 5])
    b.graph.inputs.append(ids)
    table = b.weight("table", ROWS, WIDTH)
    x = b.op("Gather", table, ids, shape=[2, 5, WIDTH], name="embedded")
    turned = b.op("Transpose", table, shape=[WIDTH, ROWS], name="turned", perm=[1, 0])
    model = b.model(logits=b.op("MatMul", x, turned, shape=[2, 5, ROWS], name="product"))
    expected = run(model.clone(), FEEDS)["logits"]
    assert tie_weights(model) == ["table"]
    assert [node.op_type for node in model.graph] == ["Gather", "FusedMatMul"]
    np.testing.assert_allclose(run(model, FEEDS)["logits"], expected, rtol=1e-6, atol=1e-6)
    (report,) = quantize_weights(model, "int8")
    assert (report.format, report.reason) == ("int8", "")
