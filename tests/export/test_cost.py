"""The planner's numbers against the graphs that are then built."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from devices.plan import Board, needs
from devices.units import Stretch
from export.cost import cost
from export.gradient.path import NoGradientRule
from export.liveness import live_bytes
from export.prepare import Prepared
from export.sources.captured import Captured
from export.stage import Key, build_stage
from export.weight_cost import Stored
from tests.export.graphs import BATCH, CLASSES, WIDTH, Builder, residual_mlp
from tests.export.test_chain import prepared_from

FLOAT = 4


def test_weights_slots_and_boundaries_of_a_small_net() -> None:
    """Three blocks of 6 x 6, slots of 6 + 6, and two tensors of which one has no batch."""
    numbers = cost(residual_mlp(), BATCH, "train")
    units = numbers.units
    assert sum(u.weight_bytes["fp32"] for u in units) == 3 * WIDTH * WIDTH * FLOAT
    assert sum(u.adapter_values_per_rank for u in units) == 3 * 2 * WIDTH
    assert len(numbers.positions) == len(units) - 1
    between_blocks = [u for u in units if u.name == "layer.1.base"]
    assert len(between_blocks) == 1
    before = units[units.index(between_blocks[0]) - 1]
    # h [4, 6] and the shift [1, 6], per item of 4
    assert before.boundary_bytes_per_item == (BATCH + 1) * WIDTH * FLOAT // BATCH


def test_a_forward_pass_keeps_nothing() -> None:
    """Only training keeps activations, and what it keeps is what its rules read."""
    assert {u.kept_bytes_per_item for u in cost(residual_mlp(), BATCH, "serve").units} == {0}
    kept = sum(u.kept_bytes_per_item for u in cost(residual_mlp(), BATCH, "train").units)
    # the tanh of each block and of the features, and three layer inputs, of which the first is fed
    narrow = 3 * 2 * 16 * FLOAT  # x A and scale (x A), counted with rank 16
    assert (3 + 1 + 2) * WIDTH * FLOAT <= kept <= (3 + 1 + 2) * WIDTH * FLOAT + narrow + CLASSES * FLOAT


@pytest.fixture(scope="module")
def prepared(captured_bert: Captured) -> Prepared:
    """A tiny BERT with a slot beside every linear layer."""
    return prepared_from(captured_bert)


@pytest.mark.parametrize("mode", ["train", "serve"])
@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("cuts", [(), (20,), (10, 25, 50, 70)])
def test_a_plan_promises_at_least_what_its_graphs_need(
    cuts: tuple[int, ...], quant: str, mode: str, prepared: Prepared, tmp_path: Path
) -> None:
    """The sum over units is an upper bound of every built graph's live bytes, and not a loose one for the whole."""
    numbers = prepared.cost(8, mode)
    stage = build_stage(prepared, Key(mode, quant, 8, numbers.nodes(cuts)), tmp_path)
    planned = needs(numbers.units, Board("any", 1, mode, quant, 16), cuts, 8)
    for need, piece in zip(planned, stage.pieces, strict=True):
        live = max(max(live_bytes(model.graph, packed=True)) for model in piece.shipped.values())
        assert live <= need.live, piece.segment.name
        assert cuts or need.live <= 1.25 * live
        # the file has small tensors less, and gaps up to the next page more
        padding = 4096 * len(piece.reports["forward"])
        assert (tmp_path / f"{piece.segment.name}.weights.bin").stat().st_size <= need.weights + padding


def test_four_bits_are_restored_only_where_something_goes_back(prepared: Prepared) -> None:
    """Products of packed integers need no floats of their weights; a backward graph restores every one of them."""

    def floats(mode: str, quant: str) -> dict[str, int]:
        units = prepared.cost(8, mode).units
        return {shape: size for unit in units for shape, size in unit.dequantized_bytes[quant].items()}

    assert floats("serve", "int8") == floats("train", "int8") == floats("train", "int4") != {}
    assert floats("serve", "int4") == floats("serve", "fp32") == floats("train", "fp32") == {}


def test_a_table_of_four_bits_that_is_multiplied_by_counts_packed_as_well() -> None:
    """Rows are read from the file and products from a packed copy: a segment with both has both."""
    b, rows = Builder(4), 64
    table = b.weight("table", rows, 32)
    ids = ir.val("ids", ir.DataType.INT64, [BATCH])
    b.graph.inputs.append(ids)
    h = b.op("Tanh", b.op("Gather", table, ids, shape=[BATCH, 32], name="rows"), shape=[BATCH, 32], name="h")
    back = ir.val("y", ir.DataType.FLOAT, [BATCH, rows])
    b.graph.append(ir.node("FusedMatMul", [h, table], {"transB": 1}, domain="com.microsoft", outputs=[back]))
    numbers = cost(b.model(y=back), BATCH, "serve", {"int4": "int4", "int8": "int8"})

    def weights(quant: str, first: int) -> int:
        stretch = Stretch(quant, BATCH, "serve")
        for unit in numbers.units[first:]:
            stretch.add(unit)
        return stretch.weights

    stored = rows * (32 // 2 + 4)
    assert (weights("int4", 0), weights("int4", len(numbers.units) - 1)) == (stored + rows * 32 // 2, stored)
    assert weights("int8", 0) == weights("int8", len(numbers.units) - 1) == rows * (32 + 4)
    assert numbers.with_stored("same", {"table": Stored(stored, packed=rows * 32 // 2)})[-1].tied["table"] == {
        **numbers.units[-1].tied["table"],
        "same": numbers.units[-1].tied["table"]["int4"],
    }


def test_mode_train_refuses_what_cannot_be_differentiated() -> None:
    """The operator is named before anything is planned; mode serve counts the same net."""
    b = Builder(6)
    x, a = b.input("x", [4, WIDTH]), b.input("slot.layer.A", [WIDTH, WIDTH])
    h = b.op("MatMul", x, a, shape=[4, WIDTH], name="h")
    model = b.model(logits=b.op("Hardmax", h, shape=[4, WIDTH], name="hard"))
    with pytest.raises(NoGradientRule, match="Hardmax"):
        cost(model, 4, "train")
    assert len(cost(model, 4, "serve").units) >= 1
