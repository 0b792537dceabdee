"""A graph without its slots computes what the graph with empty slots computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel
from export.cut import crossing, cut
from export.fold import freeze
from export.formats.rewrite import quantize_weights
from export.slots import insert_slots
from export.sources.captured import Captured
from export.strip import has_slots, strip_slots
from tests.export.runtime import copy_of, pictures, run, text
from tests.export.test_convs import BATCH, as_graph, given, random_layer, random_norm


def operators(model: ir.Model) -> list[str]:
    """Operators in order."""
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
@pytest.mark.parametrize("fmt", ["fp32", "int8"])
def test_a_stripped_encoder_is_bit_equal(which: str, fmt: str, request: pytest.FixtureRequest) -> None:
    """Same bits as the graph with every slot empty, in float and int8; nodes are those of a model without slots."""
    captured = copy_of(request.getfixturevalue(which))
    plain = freeze(captured.model, 2, 9)
    insert_slots(captured.model, "all-linear", ("lora", "bias"))
    frozen = freeze(captured.model, 2, 9)
    served = strip_slots(frozen)
    assert has_slots(frozen)
    assert not has_slots(served)
    assert sorted(operators(served)) == sorted(operators(plain))
    assert [v.name for v in served.graph.inputs] == [v.name for v in plain.graph.inputs]
    quantize_weights(frozen, fmt)
    quantize_weights(served, fmt)
    feeds = pictures(2) if captured.modality == "image" else text(2, 9)
    for level in ("disable", "all") if fmt == "fp32" else ("disable",):
        found, wanted = run(served, feeds, level), run(frozen, feeds, level)
        assert found.keys() == wanted.keys()
        for name, value in found.items():
            if level == "disable":
                np.testing.assert_array_equal(value, wanted[name])
            else:  # onnxruntime fuses what slots no longer separate
                np.testing.assert_allclose(value, wanted[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("norm", [False, True])
def test_a_stripped_convolution_is_the_layer_alone(groups: int, norm: bool) -> None:
    """Conv and Relu are left, with the normalisation folded in as in a model that never had a slot."""
    layer = random_layer(2, 3, out=8, groups=groups)
    model = as_graph(layer, random_norm(8) if norm else None)
    plain = freeze(model, BATCH, None)
    insert_slots(model, "features", ("lora", "bias"))
    served = strip_slots(freeze(model, BATCH, None))
    assert operators(served) == operators(plain) == ["Conv", "Relu"]
    np.testing.assert_array_equal(run(served, {"x": given()})["y"], run(plain, {"x": given()})["y"])


def test_every_segment_is_stripped_by_itself(captured_bert: Captured) -> None:
    """Boundaries keep their names and types, and a chain of stripped segments is the chain with empty slots."""
    captured = copy_of(captured_bert)
    insert_slots(captured.model, "all-linear")
    frozen = freeze(captured.model, 2, 9)
    values: dict[str, np.ndarray] = dict(text(2, 9))
    everywhere = range(1, len(frozen.graph))
    few = [at for at, crossed in zip(everywhere, crossing(frozen.graph, everywhere), strict=True) if len(crossed) <= 2]
    for segment in cut(frozen, (few[len(few) // 3], few[2 * len(few) // 3])):
        served = strip_slots(segment.model)
        assert [v.name for v in served.graph.outputs] == list(segment.leaving)
        found, wanted = run(served, values), run(segment.model, values)
        for name, value in found.items():
            np.testing.assert_array_equal(value, wanted[name])
        values |= found


@pytest.mark.parametrize("base_is_input", [False, True])
def test_a_sum_that_is_an_output_keeps_its_name(base_is_input: bool) -> None:
    """Whether the layer is made in this graph, or in the one before."""
    x = ir.val("x", ir.DataType.FLOAT, [2, 3])
    delta = ir.val("slot.m.bias", ir.DataType.FLOAT, [3], const_value=ir.tensor(np.zeros(3, np.float32)))
    nodes = [] if base_is_input else [ir.node("Tanh", [x])]
    base = x if base_is_input else nodes[0].outputs[0]
    y = ir.val("y", ir.DataType.FLOAT, [2, 3])
    nodes.append(ir.node("Add", [base, delta], outputs=[y]))
    graph = ir.Graph([x, delta], [y], nodes=nodes, initializers=[delta], opset_imports={"": 21}, name="g")
    served = strip_slots(ir.Model(graph, ir_version=10))
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    wanted = feeds["x"] if base_is_input else np.tanh(feeds["x"])
    np.testing.assert_allclose(run(served, feeds)["y"], wanted, rtol=1e-6)


def test_a_slot_that_goes_on_is_refused() -> None:
    """Where a cut separates the change from its sum, the message names what leaves."""
    x = ir.val("x", ir.DataType.FLOAT, [2, 3])
    b = ir.val("slot.m.B", ir.DataType.FLOAT, [3, 3], const_value=ir.tensor(np.zeros((3, 3), np.float32)))
    change = ir.val("cut0.1", ir.DataType.FLOAT, [2, 3])
    node = ir.node("MatMul", [x, b], outputs=[change])
    graph = ir.Graph([x, b], [change], nodes=[node], initializers=[b], opset_imports={"": 21}, name="g")
    with pytest.raises(UnsupportedModel, match="found cut0.1 leaving it"):
        strip_slots(ir.Model(graph, ir_version=10))
