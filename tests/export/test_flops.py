"""Operations against torch's own counter, and against counts that are small enough to do by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.cost import cost
from export.flops import graph_flops, moved_bytes, node_flops
from export.fold import freeze
from export.sources.captured import Captured
from tests.export.graphs import BATCH, WIDTH, Builder, residual_mlp

PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "Conv", "ConvTranspose"}


class Attention(nn.Module):
    """One head of attention by hand, as exporters write it."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


def exported(module: nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> ir.Graph:
    """The ONNX graph of a module, with known shapes."""
    path = folder / "model.onnx"
    torch.onnx.export(module.eval(), inputs, path, dynamo=True, verbose=False)
    return freeze(ir.load(path), inputs[0].shape[0]).graph


MODULES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "a linear layer": (nn.Linear(5, 7), [(3, 4, 5)]),
    "a convolution in groups, with strides": (nn.Conv2d(6, 8, (3, 2), stride=2, padding=1, groups=2), [(2, 6, 9, 11)]),
    "a convolution over time": (nn.Conv1d(3, 5, 4, dilation=2), [(2, 3, 20)]),
    "a transposed convolution": (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), [(2, 6, 5, 7)]),
    "attention": (Attention(), [(2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 8)]),
}


@pytest.mark.parametrize("case", MODULES)
def test_products_are_counted_as_torch_counts_them(case: str, tmp_path: Path) -> None:
    """Two operations per multiply-add, for every product of the exported graph together."""
    module, shapes = MODULES[case]
    inputs = tuple(torch.randn(shape) for shape in shapes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    graph = exported(module, inputs, tmp_path)
    assert sum(node_flops(node) for node in graph if node.op_type in PRODUCTS) == counter.get_total_flops()


def node(op: str, inputs: list[tuple[int | str, ...]], out: tuple[int | str, ...], **attributes: Any) -> ir.Node:
    """A node over values of these shapes."""
    values = [ir.val(f"x{i}", ir.DataType.FLOAT, shape) for i, shape in enumerate(inputs)]
    made = ir.node(op, values, attributes=attributes)
    made.outputs[0].name, made.outputs[0].shape = "y", ir.Shape(out)
    made.outputs[0].dtype = ir.DataType.FLOAT
    return made


BY_HAND = {
    # 2 directions of 4 steps over a batch of 3: four gates of 5 from 7 features and 5 hidden ones
    "an LSTM": (node("LSTM", [(4, 3, 7), (2, 20, 7), (2, 20, 5)], (4, 2, 3, 5)), 2 * 4 * 3 * 2 * 20 * (7 + 5)),
    "a GRU": (node("GRU", [(4, 3, 7), (1, 15, 7), (1, 15, 5)], (4, 1, 3, 5)), 2 * 4 * 3 * 15 * (7 + 5)),
    "a transposed Gemm": (node("Gemm", [(5, 3), (5, 7), (7,)], (3, 7), transA=1), 2 * 3 * 7 * 5),
    "an Einsum": (node("Einsum", [(2, 3, 5), (2, 5, 7)], (2, 3, 7), equation="bij,bjk->bik"), 2 * 2 * 3 * 5 * 7),
    "a batch of them": (node("Einsum", [(4, 3, 5), (5, 7)], (4, 3, 7), equation="...j,jk->...k"), 2 * 4 * 3 * 5 * 7),
    "an adapter of unknown rank counts rank 16": (node("MatMul", [(4, 6), (6, "r_0")], (4, "r_0")), 2 * 4 * 6 * 16),
    "a sum of two": (node("Add", [(4, 6), (6,)], (4, 6)), 24),
    "a mean reads more than it writes": (node("ReduceMean", [(4, 6)], (4, 1)), 24),
    "a transposition computes nothing": (node("Transpose", [(4, 6)], (6, 4)), 0),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_counts_that_can_be_done_by_hand(case: str) -> None:
    """One node each."""
    made, expected = BY_HAND[case]
    assert node_flops(made) == expected


def test_bodies_count_as_often_as_they_run() -> None:
    """An If costs its dearer branch, a Loop its body times its trips."""
    inside = [node("Add", [(4, 6), (6,)], (4, 6)), node("MatMul", [(4, 6), (6, 2)], (4, 2))]
    branches = [ir.Graph([], [n.outputs[0]], nodes=[n], name="branch") for n in inside]
    condition = ir.val("c", ir.DataType.BOOL, [])
    either = ir.node("If", [condition], attributes={"then_branch": branches[0], "else_branch": branches[1]})
    assert node_flops(either) == 2 * 4 * 6 * 2
    body = ir.Graph([], [], nodes=[node("Add", [(4, 6), (6,)], (4, 6))], name="body")
    trips = ir.val("n", const_value=ir.tensor([5]))
    assert node_flops(ir.node("Loop", [trips, condition], attributes={"body": body})) == 5 * 24


def test_moved_bytes() -> None:
    """Activations in and out count once each; weights and reshapes do not."""
    b = Builder(0)
    x = b.input("x", [4, 6])
    h = b.op("MatMul", x, b.weight("w", 6, 2), shape=[4, 2], name="h")
    squared = b.op("Mul", h, h, shape=[4, 2], name="squared")
    b.op("Reshape", squared, b.weight("shape", 1), shape=[8], name="flat")
    assert [moved_bytes([n]) for n in b.graph] == [4 * (24 + 8), 4 * (8 + 8), 0]


def test_units_carry_their_share(captured_bert: Captured) -> None:
    """Over all units: the operations of the whole graph; the mask is carried to its last reader."""
    model = residual_mlp()
    units = cost(model, BATCH, "serve").units
    total = graph_flops(model.graph)
    assert total <= sum(u.flops_per_item for u in units) * BATCH < total + BATCH * len(units)
    assert total > 3 * 2 * BATCH * WIDTH * WIDTH
    frozen = freeze(captured_bert.model, 2, 8)
    carried = [u.carried_bytes_per_item for u in cost(frozen, 2, "serve").units]
    mask = 8 * 8  # int64 tokens of one item
    assert carried[-1] == 0
    assert set(carried) <= {0, mask, 2 * mask, 3 * mask}
    assert carried == sorted(carried, reverse=True)
    assert mask in carried


def test_a_state_is_carried_back() -> None:
    """It goes back over the cuts between what reads it and what makes it, over no others."""
    b = Builder(6)
    last = b.input("x", [2, 4])
    state = b.input("h", [2, 4])
    made = {}
    for op_type, others in (("Tanh", ()), ("Add", (state,)), ("Neg", ()), ("Relu", ()), ("Abs", ())):
        made[op_type] = last = b.op(op_type, last, *others, shape=[2, 4], name=op_type.lower())
    model = b.model(h_next=made["Relu"], y=last)
    carried = [u.carried_bytes_per_item for u in cost(model, 2, "serve", states={"h": "h_next"}).units]
    assert carried == [0, 16, 16, 0, 0]  # behind each node; four numbers of an item
