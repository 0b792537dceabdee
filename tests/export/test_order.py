from __future__ import annotations

import random

import numpy as np
import onnx_ir as ir
import pytest

from export.formats.rewrite import quantize_weights
from export.order import order_just_in_time
from tests.export.graphs import residual_mlp
from tests.export.runtime import run

WIDTH = 40


def shuffled(seed: int) -> ir.Model:
    """A quantized chain whose dequantizations were moved to random earlier places."""
    model = residual_mlp(3, slots=False, width=WIDTH)
    quantize_weights(model, "int8")
    graph, draw = model.graph, random.Random(seed)
    for node in [n for n in graph if n.op_type == "DequantizeLinear"]:
        earlier = list(graph)[: list(graph).index(node)]
        if earlier:
            graph.remove(node)
            graph.insert_before(draw.choice(earlier), node)
    return model


@pytest.mark.parametrize("seed", range(4))
def test_dequantization_comes_just_before_its_product(seed: int) -> None:
    """Each is followed by its reader; all other nodes keep their order, and the outputs their values."""
    model = shuffled(seed)
    given = {
        "x": np.random.default_rng(0).standard_normal((4, WIDTH)).astype(np.float32),
        "bias": np.ones((1, WIDTH), np.float32),
    }
    before = run(model, given)
    others = [node for node in model.graph if node.op_type != "DequantizeLinear"]
    order_just_in_time(model)
    nodes = list(model.graph)
    assert [node for node in nodes if node.op_type != "DequantizeLinear"] == others
    for place, node in enumerate(nodes):
        if node.op_type == "DequantizeLinear":
            assert nodes[place + 1] in [use.node for use in node.outputs[0].uses()]
    assert all(np.array_equal(run(model, given)[name], a) for name, a in before.items())


def test_what_is_in_order_is_left() -> None:
    """A graph straight from the quantizer needs no move, and a second pass finds nothing."""
    model = residual_mlp(3, slots=False, width=WIDTH)
    quantize_weights(model, "int8")
    assert order_just_in_time(model) == 0
    moved = shuffled(0)
    assert order_just_in_time(moved) > 0
    assert order_just_in_time(moved) == 0
