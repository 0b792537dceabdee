from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel
from export.gradient.backward import LossSpec, build_backward
from export.gradient.path import NoGradientRule, UnknownDimension
from export.gradient.sweep import differentiate
from tests.export.gradient.harness import parse

# What stands on the path, and what the message must say about it.
REFUSED = {
    "no rule": ("(T[2,3] x) => (T[2,3] y) { y = Hardmax(x) }", "no rule for Hardmax (node"),
    "two operators": (
        "(T[2,3] x) => (T[2,3] y) { a = Hardmax(x) b = Bernoulli(a) y = Hardmax(b) }",
        "no rule for Hardmax (node a; y); Bernoulli (node b).",
    ),
    "another domain": (
        "(T[2,3] x) => (T[2,3] y) { y = com.microsoft.QuickGelu(x) }",
        "no rule for com.microsoft::QuickGelu (node y)",
    ),
    "computed repeats": (
        "(T[4,3] x, int64[2] r) => (T[8,3] y) { y = Tile(x, r) }",
        "Tile (its repeats are not constant) (node y)",
    ),
    "computed pads": (
        "(T[4,3] x, int64[4] p) => (T[6,3] y) { y = Pad(x, p) }",
        "Pad (its pads are not constant) (node y)",
    ),
    "reflecting pads that cut": (
        '(T[4,3] x) => (T[4,3] y) <int64[4] p = {1, 0, -1, 0}> { y = Pad<mode="reflect">(x, p) }',
        "Pad (it cuts in mode reflect) (node y)",
    ),
    "computed sizes": (
        '(T[1,1,4,3] x, float[4] s) => (T[1,1,8,6] y) { y = Resize<mode="linear">(x, , s) }',
        "Resize (its sizes are not constant) (node y)",
    ),
    "cropping resize": (
        (
            "(T[4] x) => (T[8] y) <T[2] r = {0, 1}, float[1] s = {2}> "
            '{ y = Resize<coordinate_transformation_mode="tf_crop_and_resize">(x, r, s) }'
        ),
        "Resize (attribute coordinate_transformation_mode is tf_crop_and_resize) (node y)",
    ),
    "indices by columns": (
        "(T[1,1,4,4] x) => (T[1,1,2,2] y) { y, i = MaxPool<kernel_shape=[3,3], storage_order=1>(x) }",
        "MaxPool (attribute storage_order is set) (node y)",
    ),
    "pads that the runtime chooses": (
        '(T[1,1,4] x, T[1,1,2] w) => (T[1,1,4] y) { y = ConvTranspose<auto_pad="SAME_UPPER">(x, w) }',
        "ConvTranspose (its pads are uneven and chosen by the runtime) (node y)",
    ),
    "statistics that are learned": (
        "(T[2,3] x, T[3] s, T[3] b) => (T[2,3] y) { y, m, v = BatchNormalization<training_mode=1>(x, s, b, s, b) }",
        "BatchNormalization (attribute training_mode is set) (node y)",
    ),
    "values that are dropped": (
        "(T[2,3] x) => (T[2,3] y) <T r = {0.5}, bool m = {1}> { y = Dropout(x, r, m) }",
        "Dropout (it drops values at random) (node y)",
    ),
    "products of what is put": (
        ('(T[4] x, T[2] u) => (T[4] y) <int64[2] i = {0, 1}> { y = ScatterElements<reduction="mul">(x, i, u) }'),
        "ScatterElements (its reduction is mul) (node y)",
    ),
    "a diagonal": (
        '(T[3,3] x) => (T[3] y) { y = Einsum<equation="ii->i">(x) }',
        "Einsum (a label stands twice in one input) (node y)",
    ),
    "rank picked": (
        '(T[4,"r_0"] x, int64[2] i) => (T[2,"r_0"] y) { y = Gather(x, i) }',
        "Gather (it cuts an adapter rank) (node y)",
    ),
    "computed bounds": (
        "(T[4,3] x, int64[1] b) => (T[2,3] y) <int64[1] e = {4}> { y = Slice(x, b, e) }",
        "Slice (its bounds are not constant) (node y)",
    ),
    "rank cut": (
        '(T[4,"r_0"] x) => (T[4,1] y) <int64[1] b = {0}, int64[1] e = {1}, int64[1] a = {1}> { y = Slice(x, b, e, a) }',
        "Slice (it cuts an adapter rank) (node y)",
    ),
    "computed axes": (
        "(T[4,3] x, int64[1] a) => (T[4,1] y) { y = ReduceSum(x, a) }",
        "ReduceSum (its axes are not constant) (node y)",
    ),
    "transposed batches": (
        "(T[2,4,3] x, T[3,5] w) => (T[2,4,5] y) { y = com.microsoft.FusedMatMul<transBatchA=1>(x, w) }",
        "com.microsoft::FusedMatMul (attribute transBatchA is set) (node y)",
    ),
    "quantized activations": (
        "(T[4,3] x, T s) => (T[4,3] y) <int8 z = {0}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
        "QuantizeLinear (node q); DequantizeLinear (node y)",
    ),
    "second output": (
        "(T[4,3] x, T[3] w) => (T[4,3] y, T[4,1] i) { y, m, i = LayerNormalization(x, w) }",
        "LayerNormalization with respect to output 2 (node y)",
    ),
    "inside a branch": (
        (
            "(T[2,3] x, bool c) => (T[2,3] y) { y = If(c) <then_branch = t () => (T[2,3] p) { p = Neg(x) }, "
            "else_branch = e () => (T[2,3] q) { q = Identity(x) }> }"
        ),
        "no rule for If (node y)",
    ),
}


def _named(text: str, opset: int = 20) -> ir.Model:
    """A model whose nodes are called after their first output."""
    model = parse(text, "float", opset)
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    """What cannot be differentiated is named with its nodes, together with what still works."""
    text, words = REFUSED[name]
    with pytest.raises(NoGradientRule) as caught:
        build_backward(_named(text), wanted=["x"])
    message = str(caught.value)
    assert words in message
    assert message.startswith("Expected operators with a gradient rule between the adapters and the loss, found")
    assert "trains with `ridge`, a head on features, and with `spry`" in message
    assert message.endswith("export with --mode train-forward, or with --mode serve to serve it.")
    assert caught.value.exit_code == UnsupportedModel.exit_code == 10


@pytest.mark.parametrize(
    "text",
    [
        "(T[2,3] x, T[2,3] w) => (T[2,3] y) { a = Hardmax(w) y = Mul(x, a) }",
        "(T[2,3] x) => (T[2,3] y, T[2,3] z) { y = Neg(x) z = Hardmax(x) }",
        "(T[2,3] x) => (T[2,3] y) { a = Hardmax(x) f = Floor(a) y = Add(x, f) }",
    ],
    ids=["beside the wanted input", "not on the way to the loss", "before a step function"],
)
def test_operators_off_the_path_need_no_rule(text: str) -> None:
    """An operator without a rule is no obstacle where no gradient passes through it."""
    assert build_backward(_named(text), wanted=["x"], seeds={"y": "grad.y"})


def test_a_default_that_can_be_fed_is_no_constant() -> None:
    """An initializer that is also an input may hold anything at run time, so no rule reads it."""
    model = _named("(T[4,3] x, int64[1] n) => (T[1,3] y) { y = ReduceSum(x, n) }")
    axes = model.graph.inputs[1]
    axes.const_value = ir.tensor(np.array([0], np.int64), name="n")
    model.graph.register_initializer(axes)
    with pytest.raises(NoGradientRule, match=r"its axes are not constant"):
        build_backward(model, wanted=["x"])


def test_a_refused_graph_is_left_as_it_was() -> None:
    """All obstacles are found before the first node is appended."""
    model = _named("(T[2,3] x) => (T[2,3] y) { a = Hardmax(x) y = Neg(a) }")
    seed = ir.val("seed", ir.DataType.FLOAT, [2, 3])
    with pytest.raises(NoGradientRule):
        differentiate(model.graph, {model.graph.outputs[0]: seed}, [model.graph.inputs[0]])
    assert [node.op_type for node in model.graph] == ["Hardmax", "Neg"]


def test_unknown_dimensions_are_named() -> None:
    """A symbolic dimension that is not an adapter's rank is refused with the value and node that have it."""
    text = '(T["batch",3] x, T["r_0",3] w) => (T["batch","r_0"] y) { t = Transpose(w) y = MatMul(x, t) }'
    with pytest.raises(UnknownDimension) as caught:
        build_backward(_named(text), wanted=["w"])
    message = str(caught.value)
    assert "unknown dimension 0 (batch) of 'x' at MatMul 'y'; dimension 0 (batch) of 'y' at MatMul 'y'" in message
    assert "fix the batch and the sequence length" in message
    assert "r_0" not in message


def test_dimensions_that_inference_invents_are_refused() -> None:
    """A shape that depends on data is unknown even where shape inference gives it a name."""
    text = "(T[1,3] x, int64[2] s) => (T[6] y) <int64[1] n = {-1}> { e = Expand(x, s) y = Reshape(e, n) }"
    with pytest.raises(UnknownDimension, match=r"of 'e' at Expand 'e'"):
        build_backward(_named(text), wanted=["x"])


def test_old_opset_is_refused() -> None:
    """Below opset 16 ScatterElements cannot add."""
    with pytest.raises(UnsupportedModel, match=r"Expected ONNX opset 16 or newer to differentiate, found 15"):
        build_backward(_named("(T[2,3] x) => (T[2,3] y) { y = Neg(x) }", 15), wanted=["x"])


NEG = "(T[2,3] x) => (T[2,3] y) { y = Neg(x) }"


def test_unknown_names_are_refused() -> None:
    """A wanted name, an output or a loss that the graph does not have is named, with what there is."""
    with pytest.raises(UnsupportedModel, match=r"Expected an input or a weight named 'A' .* found none"):
        build_backward(_named(NEG), wanted=["A"])
    with pytest.raises(UnsupportedModel, match=r"Expected an output named 'z', found y"):
        build_backward(_named(NEG), wanted=["x"], seeds={"z": "grad.z"})
    with pytest.raises(UnsupportedModel, match=r"Expected an output named 'logits', found y"):
        build_backward(_named(NEG), wanted=["x"], loss=LossSpec())


def test_taken_names_are_refused() -> None:
    """A new input or output never takes the name of a value that is there."""
    with pytest.raises(UnsupportedModel, match=r"Expected the name 'x' to be free .* found it taken"):
        build_backward(_named(NEG), wanted=["x"], seeds={"y": "x"})
    through = "(T[2,3] x, T[2,3] h) => (T[2,3] y, T[2,3] h) { y = Mul(x, h) }"
    with pytest.raises(UnsupportedModel, match=r"'grad.h' to be free .* choose another name"):
        build_backward(_named(through), wanted=["h"])
