from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.gelu import fuse_gelu
from tests.export.runtime import run, worst


class Graph:
    """Nodes over x [2, 3]; numbers become constants."""

    def __init__(self) -> None:
        self.x = ir.val("x", ir.DataType.FLOAT, [2, 3])
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def value(self, operand: ir.Value | float) -> ir.Value:
        if isinstance(operand, ir.Value):
            return operand
        name = f"c{len(self.constants)}"
        self.constants.append(ir.val(name, const_value=ir.tensor(np.array(operand, np.float32), name=name)))
        return self.constants[-1]

    def __call__(self, op_type: str, *operands: ir.Value | float) -> ir.Value:
        output = ir.val(f"v{len(self.nodes)}", ir.DataType.FLOAT, [2, 3])
        self.nodes.append(ir.node(op_type, [self.value(o) for o in operands], outputs=[output]))
        return output

    def model(self, *outputs: ir.Value) -> ir.Model:
        graph = ir.Graph(
            [self.x], outputs, nodes=self.nodes, initializers=self.constants, opset_imports={"": 21}, name="made"
        )
        return ir.Model(graph, ir_version=10)


def exported(g: Graph) -> ir.Value:
    """The form of torch's exporter: (x (erf(x / sqrt 2) + 1)) 0.5."""
    return g("Mul", g("Mul", g.x, g("Add", g("Erf", g("Div", g.x, math.sqrt(2))), 1.0)), 0.5)


def decomposed(g: Graph) -> ir.Value:
    """The form of torch's decompositions: (x 0.5) (erf(x sqrt 0.5) + 1)."""
    return g("Mul", g("Mul", g.x, 0.5), g("Add", g("Erf", g("Mul", g.x, math.sqrt(0.5))), 1.0))


def swapped(g: Graph) -> ir.Value:
    """Every commutative pair the other way round."""
    return g("Mul", 0.5, g("Mul", g("Add", 1.0, g("Erf", g("Mul", math.sqrt(0.5), g.x))), g.x))


def halved(g: Graph) -> ir.Value:
    """A division by 2 for the half."""
    return g("Mul", g("Add", g("Erf", g("Div", g.x, math.sqrt(2))), 1.0), g("Div", g.x, 2.0))


X = np.array([[-3.0, -0.5, 0.0], [0.1, 1.0, 4.0]], np.float32)


@pytest.mark.parametrize("form", [exported, decomposed, swapped, halved])
def test_every_way_to_spell_gelu_is_found(form: Callable[[Graph], ir.Value]) -> None:
    """One node is left, and it computes torch's gelu."""
    g = Graph()
    model = g.model(form(g))
    assert fuse_gelu(model) == 1
    RemoveUnusedNodesPass()(model)
    assert [node.op_type for node in model.graph] == ["Gelu"]
    (found,) = run(model, {"x": X}).values()
    assert worst(found, torch.nn.functional.gelu(torch.from_numpy(X)).numpy()) <= 1e-6


def wrong_half(g: Graph) -> ir.Value:
    """0.51 instead of a half."""
    return g("Mul", g("Mul", g.x, g("Add", g("Erf", g("Div", g.x, math.sqrt(2))), 1.0)), 0.51)


def wrong_root(g: Graph) -> ir.Value:
    """1.5 instead of sqrt 2."""
    return g("Mul", g("Mul", g.x, g("Add", g("Erf", g("Div", g.x, 1.5)), 1.0)), 0.5)


def wrong_one(g: Graph) -> ir.Value:
    """2 instead of 1."""
    return g("Mul", g("Mul", g.x, g("Add", g("Erf", g("Div", g.x, math.sqrt(2))), 2.0)), 0.5)


def other_x(g: Graph) -> ir.Value:
    """-x times what x makes."""
    return g("Mul", g("Mul", g("Neg", g.x), g("Add", g("Erf", g("Div", g.x, math.sqrt(2))), 1.0)), 0.5)


def seen_inside(g: Graph) -> ir.Value:
    """The erf is read once more."""
    erf = g("Erf", g("Div", g.x, math.sqrt(2)))
    return g("Add", g("Mul", g("Mul", g.x, g("Add", erf, 1.0)), 0.5), erf)


@pytest.mark.parametrize("form", [wrong_half, wrong_root, wrong_one, other_x, seen_inside])
def test_what_only_looks_like_gelu_is_left(form: Callable[[Graph], ir.Value]) -> None:
    """Another constant, another x, or an inner value that someone else reads: nothing is rewritten."""
    g = Graph()
    model = g.model(form(g))
    before = run(model, {"x": X})
    assert fuse_gelu(model) == 0
    assert "Gelu" not in {node.op_type for node in model.graph}
    assert all(np.array_equal(run(model, {"x": X})[name], a) for name, a in before.items())
