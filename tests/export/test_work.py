"""The work of nodes: by hand, against torch's counter, and the same before and after weights have formats."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from devices.latency import Curve, Latency
from devices.times import Speed, unit_ns, works_ns
from export import alone
from export.cost import cost
from export.formats.rewrite import quantize_weights
from export.weight_cost import Stored
from export.work import NOTHING, node_works, together, works_of
from tests.export.graphs import BATCH, residual_mlp
from tests.export.quantized import Made, nbits
from tests.export.test_flops import MODULES, exported, node
from wire.work import PRODUCTS, Work


def test_the_graphs_that_travel_are_those_that_are_made(tmp_path: Path) -> None:
    """Every file of edge/probe/graphs is, byte for byte, what the command writes, and there is no other."""
    made = {path.name: path.read_bytes() for path in alone.write(tmp_path)}

    assert {path.name: path.read_bytes() for path in alone.FOLDER.iterdir()} == made


@pytest.mark.parametrize("case", MODULES)
def test_products_are_counted_as_torch_counts_them(case: str, tmp_path: Path) -> None:
    """Two operations for each row and weight, for all products of an exported graph together."""
    module, shapes = MODULES[case]
    inputs = tuple(torch.randn(shape) for shape in shapes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    works = [work for work in works_of(exported(module, inputs, tmp_path)) if work.operator in PRODUCTS]

    assert sum(2 * w.count * w.batch * w.size[0] * w.size[1] for w in works) == counter.get_total_flops()


RESTORED = {"int8": "DequantizeLinear", "fp16": "Cast"}
RESTORES = set(RESTORED.values())
HAND: list[tuple[ir.Node, Work]] = [
    (node("MatMul", [(2, 5, 8), (8, 3)], (2, 5, 3)), Work("MatMul", "fp32", (10, 8, 3))),
    (node("MatMul", [(2, 6, 5, 8), (2, 6, 8, 5)], (2, 6, 5, 5)), Work("MatMul", "fp32", (5, 8, 5), batch=12)),
    (node("Gemm", [(7, 8), (3, 8)], (7, 3), transB=1), Work("FusedMatMul", "fp32", (7, 8, 3))),
    (node("MatMul", [(8, 3), (3,)], (8,)), Work("MatMul", "fp32", (8, 3, 1))),
    (node("Conv", [(2, 6, 9, 9), (8, 6, 3, 3)], (2, 8, 9, 9)), Work("Conv", "fp32", (162, 54, 8))),
    (node("Conv", [(2, 6, 9, 9), (6, 1, 3, 3)], (2, 6, 9, 9), group=6), Work("DepthwiseConv", "fp32", (162, 9, 6))),
    (node("Conv", [(1, 6, 9, 9), (8, 3, 1, 1)], (1, 8, 9, 9), group=2), Work("Conv", "fp32", (81, 3, 4), batch=2)),
    (node("Add", [(4, 5), (5,)], (4, 5)), Work("Add", "fp32", (20,))),
    (node("Tanh", [(4, 5)], (4, 5)), Work("Erf", "fp32", (20,))),
    (node("ReduceSum", [(4, 5)], (4,)), Work("ReduceMean", "fp32", (20,))),
    (node("Transpose", [(2, 3, 4, 5)], (2, 4, 3, 5), perm=[0, 2, 1, 3]), Work("Gather", "fp32", (120,))),
    (node("Transpose", [(4, 5)], (5, 4), perm=[1, 0]), Work("Transpose", "fp32", (20,))),
    (node("Gather", [(100, 5), (3,)], (3, 5)), Work("Gather", "fp32", (15,))),
    (node("Reshape", [(4, 5)], (20,)), NOTHING),
    (node("LSTM", [(7, 2, 4), (1, 20, 4), (1, 20, 5)], (7, 1, 2, 5)), Work("MatMul", "fp32", (2, 9, 20), count=7)),
]


@pytest.mark.parametrize(("made", "work"), HAND, ids=lambda one: one.op_type if isinstance(one, ir.Node) else "")
def test_nodes_by_hand(made: ir.Node, work: Work) -> None:
    """Rows, weights and elements of single nodes."""
    assert node_works(made) == [work]


def test_alike_nodes_are_counted_together() -> None:
    """Work of one kind and shape is one entry with a count."""
    one, other = Work("Add", "fp32", (4,)), Work("Add", "fp32", (5,))

    assert together([one, other, one]) == (Work("Add", "fp32", (4,), count=2), other)


def test_four_bits_are_a_node_of_their_own() -> None:
    """A product of 4-bit blocks says its bits and its sizes."""
    made = Made()
    value = nbits(4, "none", 0)(made)
    value.shape = ir.Shape([5, 24])

    assert [w for w in works_of(made.graph) if w.operator == "MatMulNBits"] == [
        Work("MatMulNBits", "int4", (5, 160, 24))
    ]


def slow(works: list[Work]) -> Latency:
    """A table in which every node takes a nanosecond per row and weight, or element, whatever it is."""
    kinds = {(work.operator, work.format) for work in works}
    shapes = {kind: ((1, 1, 1),) if kind[0] in PRODUCTS else ((1,),) for kind in kinds}
    return Latency("unverified", tuple(Curve(*kind, 1, shapes[kind], (1,)) for kind in sorted(kinds)))


@pytest.mark.parametrize("fmt", ["fp32", "int8", "fp16"])
def test_a_plan_expects_the_nodes_that_are_made(fmt: str) -> None:
    """What units say of a model before its weights have a format is what the graph does."""
    model = residual_mlp(slots=False, width=64)
    units = cost(model, BATCH, "serve", {fmt: fmt}).units
    model = model.clone()
    quantize_weights(model, fmt)
    ir.passes.common.ShapeInferencePass()(model)
    made = [work for work in works_of(model.graph) if work != NOTHING and work.operator != "Add"]
    table = slow([*made, *(w for unit in units for works in unit.works[fmt] for w in works)])
    speed = Speed(1, 1, 1, "given", table)
    expected = sum(unit_ns(unit, fmt, "serve", BATCH, speed) for unit in units)
    added = sum(w.size[1] * w.count for w in works_of(model.graph) if w.operator == "Add")

    # shares of one item are rounded up
    assert expected == pytest.approx(works_ns(made, speed) + added, rel=1e-3)
    assert {w.operator for w in made if w.operator in RESTORES} == ({RESTORED[fmt]} if fmt in RESTORED else set())


def test_weights_that_are_chosen_one_by_one_have_their_own_nodes() -> None:
    """Of formats that are chosen by weight, each product becomes the nodes of its own; others stay as they were."""
    numbers = cost(residual_mlp(slots=False, width=64), BATCH, "serve", {"int8": "int8"})
    names = [name for counted in numbers.counted for name, _ in counted.products]
    units = numbers.with_stored("chosen", {names[0]: Stored(1, format="int4")})
    kinds = [work.operator for unit in units for works in unit.works["chosen"] for work in works]

    assert kinds.count("MatMulNBits") == 1
    assert "DequantizeLinear" not in kinds
    assert {work.operator for unit in units for work in unit.works["int8"][0]} == {"DequantizeLinear"}
