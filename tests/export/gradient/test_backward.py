from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.gradient.backward import LossSpec, build_backward
from export.gradient.sweep import differentiate
from tests.export.gradient.harness import (
    Array,
    Feeds,
    assert_gradients,
    assert_runtime_agrees,
    draw,
    parse,
    run,
    session,
)
from tests.export.oracle import Oracle

# Two segments of one network, and the whole: a boundary h, an adapter beside each weight, a residual.
FIRST_NODES = "u = MatMul(x, a) v = MatMul(u, w) h = Tanh(v)"
SECOND_NODES = "t = MatMul(h, b) r = Add(h, t) n = LayerNormalization(r, s) logits = MatMul(n, k)"
HEAD = "(T[4,5] h, T[5,5] b, T[5] s, T[5,3] k) => (T[4,3] logits)"


def _with_weight(model: ir.Model, name: str, array: Array) -> ir.Model:
    """`model` with its input `name` made a constant."""
    value = next(value for value in model.graph.inputs if value.name == name)
    model.graph.inputs.remove(value)
    value.const_value = ir.tensor(array, name=name)
    model.graph.register_initializer(value)
    return model


def test_chained_segments_equal_the_whole() -> None:
    """Gradients that cross a boundary from one segment's backward graph to the next equal those of the whole."""
    first = parse(f"(T[4,3] x, T[3,2] a, T[2,5] w) => (T[4,5] h) {{ {FIRST_NODES} }}")
    second = parse(f"{HEAD} {{ {SECOND_NODES} }}")
    whole = parse(
        f"(T[4,3] x, T[3,2] a, T[2,5] w, T[5,5] b, T[5] s, T[5,3] k) => (T[4,3] logits) "
        f"{{ {FIRST_NODES} {SECOND_NODES} }}"
    )
    rng = np.random.default_rng(4)
    feeds = {**draw(whole), "labels": np.array([0, 2, -100, 1]), "weights": rng.uniform(size=4)}
    expected = Oracle(build_backward(whole, wanted=["a", "b"], loss=LossSpec()))(feeds)

    boundary = Oracle(first)({name: feeds[name] for name in ("x", "a", "w")})
    last = build_backward(second, wanted=["b", "h"], loss=LossSpec())
    back = Oracle(last)({**_only(feeds, last), **boundary})
    lowest = build_backward(first, wanted=["a"])
    end = Oracle(lowest)({**_only(feeds, lowest), "grad.h": back["grad.h"]})
    np.testing.assert_allclose(back["loss"], expected["loss"], rtol=1e-14)
    np.testing.assert_allclose(back["grad.b"], expected["grad.b"], atol=1e-14)
    np.testing.assert_allclose(end["grad.a"], expected["grad.a"], atol=1e-14)


def _only(feeds: Feeds, model: ir.Model) -> Feeds:
    return {value.name: feeds[value.name] for value in model.graph.inputs if value.name in feeds}


def test_inputs_and_outputs_have_their_order_names_and_types() -> None:
    """Inputs: the forward's, labels, weights; outputs: loss, logits, gradients as they were asked for."""
    forward = parse(f"{HEAD} {{ {SECOND_NODES} }}", "float", opset=19)
    model = build_backward(forward, wanted=["k", "h"], loss=LossSpec())
    assert [value.name for value in model.graph.inputs] == ["h", "b", "s", "k", "labels", "weights"]
    assert [value.name for value in model.graph.outputs] == ["loss", "logits", "grad.k", "grad.h"]
    labels, weights = model.graph.inputs[-2:]
    assert (labels.dtype, labels.shape) == (ir.DataType.INT64, ir.Shape([4]))
    assert (weights.dtype, weights.shape) == (ir.DataType.FLOAT, ir.Shape([4]))
    assert model.graph.outputs[0].shape == ir.Shape([])
    assert model.graph.outputs[3].shape == ir.Shape([4, 5])
    assert (model.ir_version, model.graph.opset_imports) == (forward.ir_version, {"": 19, "com.microsoft": 1})
    onnx.checker.check_model(ir.to_proto(model))


def test_microsoft_opset_is_imported_only_when_used() -> None:
    """A graph of elementwise nodes asks for no operators beyond ONNX; one with a transposed product does."""
    for text, imports in (
        ("(float[2,3] x) => (float[2,3] y) { y = Neg(x) }", {"": 18}),
        ("(float[2,3] x, float[3,3] w) => (float[2,3] y) { y = MatMul(x, w) }", {"": 18, "com.microsoft": 1}),
    ):
        forward = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> segment {text}'))
        assert build_backward(forward, wanted=["x"]).graph.opset_imports == imports


def test_the_forward_model_is_left_as_it_is() -> None:
    """Building a backward graph changes nothing in the forward model, not even optional outputs."""
    forward = parse(f"{HEAD} {{ {SECOND_NODES} }}", "float")
    before = ir.to_proto(forward).SerializeToString()
    build_backward(forward, wanted=["h"], loss=LossSpec())
    assert ir.to_proto(forward).SerializeToString() == before


def test_file_order_is_execution_order_and_nothing_is_dead() -> None:
    """Every node comes after what it reads, and its result is used."""
    forward = parse(f"{HEAD} {{ {SECOND_NODES} unused = Exp(r) }}", "float")
    model = build_backward(forward, wanted=["b"], loss=LossSpec())
    known = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for node in model.graph:
        assert {value.name for value in node.inputs if value is not None} <= known
        known |= {value.name for value in node.outputs}
        assert any(value.uses() or value.is_graph_output() for value in node.outputs), node
    names = [node.name for node in model.graph if node.name]
    assert len(set(names)) == len(names)
    assert all(value.uses() for value in model.graph.initializers.values())


def test_forward_nodes_that_only_make_the_output_are_gone() -> None:
    """A middle segment's backward graph does not compute the output that nobody reads there."""
    forward = parse("(T[4,3] x, T[3,3] w) => (T[4,3] y) { h = Tanh(x) y = MatMul(h, w) }", "float")
    kinds = [node.op_type for node in build_backward(forward, wanted=["x"]).graph]
    assert kinds[0] == "Tanh"
    assert kinds.count("MatMul") == 0


def test_layer_normalization_hands_over_its_statistics() -> None:
    """Mean and inverse deviation come from the operator's own outputs; nothing is computed twice."""
    forward = parse("(T[4,3] x, T[3] s) => (T[4,3] y) { y = LayerNormalization(x, s) }", "float")
    model = build_backward(forward, wanted=["x"])
    node = next(node for node in model.graph if node.op_type == "LayerNormalization")
    assert [str(value.shape) for value in node.outputs] == ["[4,3]", "[4,1]", "[4,1]"]
    assert not any(node.op_type in {"Sqrt", "Reciprocal", "Pow"} for node in model.graph)


def test_disconnected_values_get_zeros_of_their_shape() -> None:
    """An adapter that the output does not depend on gets zeros of the rank that it is fed with."""
    text = '(T[4,3] x, T[3,"r_0"] a, T[2] z) => (T[4,3] y) { f = Floor(a) y = Neg(x) }'
    model = build_backward(parse(text, "float"), wanted=["a", "z", "x"])
    running = session(model, as_written=True)
    for rank in (0, 5):
        feeds = {"x": np.ones((4, 3)), "a": np.ones((3, rank)), "z": np.ones(2), "grad.y": np.ones((4, 3))}
        found = run(running, {name: array.astype(np.float32) for name, array in feeds.items()})
        np.testing.assert_array_equal(found["grad.a"], np.zeros((3, rank)))
        np.testing.assert_array_equal(found["grad.z"], np.zeros(2))
        np.testing.assert_array_equal(found["grad.x"], -np.ones((4, 3)))


def test_a_boundary_that_passes_through() -> None:
    """An input that is also an output gets what comes in for it, plus what the segment adds."""
    text = "(T[2,3] x, T[2,3] h) => (T[2,3] y, T[2,3] h) { y = Mul(x, h) }"
    model = build_backward(parse(text), wanted=["h", "x"], seeds={"y": "grad.y", "h": "back.h"})
    feeds = {name: np.random.default_rng(3).normal(size=(2, 3)) for name in ("x", "h", "grad.y", "back.h")}
    found = Oracle(model)(feeds)
    np.testing.assert_allclose(found["grad.h"], feeds["back.h"] + feeds["grad.y"] * feeds["x"], rtol=1e-14)
    np.testing.assert_allclose(found["grad.x"], feeds["grad.y"] * feeds["h"], rtol=1e-14)


def test_values_that_share_one_gradient() -> None:
    """Both operands of a sum get the same numbers under their own names, also when these are what came in."""
    model = build_backward(parse("(T[2,3] a, T[2,3] b) => (T[2,3] y) { y = Add(a, b) }", "float"), wanted=["a", "b"])
    assert [value.name for value in model.graph.outputs] == ["grad.a", "grad.b"]
    assert_runtime_agrees(model, draw(model))


def test_a_loss_and_a_gradient_from_outside_add_up() -> None:
    """A segment may hold the loss and still get a gradient for another of its outputs."""
    text = "(T[4,5] x) => (T[4,5] logits, T[4,5] y) { logits = Tanh(x) y = Exp(x) }"
    forward = parse(text)
    rng = np.random.default_rng(8)
    feeds = {"x": rng.normal(size=(4, 5)), "labels": np.array([0, 1, 2, 3]), "weights": rng.uniform(size=4)}
    incoming = {"grad.y": rng.normal(size=(4, 5))}
    loss_only = Oracle(build_backward(forward, wanted=["x"], loss=LossSpec()))(feeds)
    seed_only = Oracle(build_backward(forward, wanted=["x"], seeds={"y": "grad.y"}))({"x": feeds["x"], **incoming})
    both = Oracle(build_backward(forward, wanted=["x"], seeds={"y": "grad.y"}, loss=LossSpec()))({**feeds, **incoming})
    np.testing.assert_allclose(both["grad.x"], loss_only["grad.x"] + seed_only["grad.x"], rtol=1e-13)


def test_values_with_several_uses_and_outputs() -> None:
    """Gradients of all uses of a value are added: two consumers, itself squared, and as an output."""
    text = (
        "(T[3,4] x, T[4,4] w) => (T[3,4] h, T[3] z) <int64[1] a = {1}> { h = Tanh(x) s = Mul(h, h) "
        "m = MatMul(h, w) t = Mul(s, m) z = ReduceSum<keepdims=0>(t, a) }"
    )
    model = parse(text)
    assert_gradients(model, draw(model), ["x", "w"])


def test_paths_end_at_step_functions() -> None:
    """Through Floor, comparisons and casts to integers no gradient flows; beside them it does."""
    text = (
        "(T[3,4] x) => (T[3,4] y) <T zero = {0.0}> { f = Floor(x) i = Cast<to=7>(x) g = Cast<to=11>(i) "
        "c = Greater(x, zero) w = Where(c, x, f) v = Add(w, g) y = Mul(v, x) }"
    )
    model = parse(text)
    assert_gradients(model, draw(model), ["x"])


GUARDS = {
    "the export's own": "n = IsNaN(p) y = Where(n, zero, p)",
    "another condition": "y = Where(c, p, zero)",
    "behind a cast": "f = Cast<to=1>(p) l = Cast<to=1>(zero) w = Where(c, f, l) y = Cast<to=11>(w)",
    "the condition in front": "y = Where(d, zero, p)",
}


@pytest.mark.parametrize("name", GUARDS)
def test_whole_rows_masked_give_finite_gradients(name: str) -> None:
    """Where rows of -inf become NaN and are replaced, the gradient is that of the other rows and 0 there."""
    text = (
        "(T[3,4] x, T[3,4] m, bool[3,1] c, bool[3,1] d) => (T[3,4] y) <T zero = {0.0}> "
        f"{{ s = Add(x, m) p = Softmax(s) {GUARDS[name]} }}"
    )
    mask = np.zeros((3, 4))
    mask[0, :2], mask[1] = -np.inf, -np.inf
    alive = np.array([[True], [False], [True]])
    rng = np.random.default_rng(6)
    feeds = {"x": rng.normal(size=(3, 4)), "m": mask, "c": alive, "d": ~alive, "grad.y": rng.normal(size=(3, 4))}
    with np.errstate(invalid="ignore"):
        found = Oracle(build_backward(parse(text), wanted=["x"]))(feeds)["grad.x"]
    shifted = np.exp(feeds["x"] + mask)[[0, 2]]
    y, g = shifted / shifted.sum(-1, keepdims=True), feeds["grad.y"][[0, 2]]
    np.testing.assert_allclose(found[[0, 2]], y * (g - (y * g).sum(-1, keepdims=True)), atol=1e-14)
    np.testing.assert_array_equal(found[1], 0.0)


def test_a_softmax_that_is_not_guarded_gets_no_guard() -> None:
    """The two extra nodes over all attention weights are paid only where a Where follows the Softmax."""
    model = build_backward(parse("(T[3,4] x) => (T[3,4] y) { y = Softmax(x) }"), wanted=["x"])
    assert not {"IsNaN", "Where"} & {node.op_type for node in model.graph}


def test_zero_rows_have_a_zero_norm_gradient() -> None:
    """The norm of a row of zeros has gradient 0, as in torch, not NaN."""
    model = build_backward(parse("(T[2,3] x) => (T[2,1] y) <int64[1] a = {1}> { y = ReduceL2(x, a) }"), wanted=["x"])
    x = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = Oracle(model)({"x": x, "grad.y": np.ones((2, 1))})["grad.x"]
    np.testing.assert_allclose(found, [[0.0, 0.0, 0.0], [0.6, 0.0, 0.8]])


QUANTIZED = {
    "[in, out]": (1, "y = MatMul(x, w)"),
    "[out, in]": (0, "y = com.microsoft.FusedMatMul<transB=1>(x, w)"),
    "[out, in], scales along in": (1, "y = com.microsoft.FusedMatMul<transB=1>(x, w)"),
}


@pytest.mark.parametrize("layout", QUANTIZED)
def test_quantized_weights_are_dequantized_for_each_use(layout: str) -> None:
    """Forward and backward each have their own DequantizeLinear, and compute with exactly the dequantized weight."""
    axis, product = QUANTIZED[layout]
    rng = np.random.default_rng(9)
    nodes = f"w = DequantizeLinear<axis={axis}>(q, s, z) {product} t = Tanh(y)"
    inputs = "T[4,64] x, int8[64,64] q, T[64] s, int8[64] z"
    model = parse(f"({inputs}) => (T[4,64] t) <T[4,64] y> {{ {nodes} }}", "float", opset=21)
    quantized = rng.integers(-127, 128, (64, 64)).astype(np.int8)
    scales = rng.uniform(0.0005, 0.002, 64).astype(np.float32)
    for name, array in (("q", quantized), ("s", scales), ("z", np.zeros(64, np.int8))):
        _with_weight(model, name, array)
    backward = build_backward(model, wanted=["x"])
    kinds = [node.op_type for node in backward.graph]
    assert kinds.count("DequantizeLinear") == 2
    second = len(kinds) - 1 - kinds[::-1].index("DequantizeLinear")
    assert kinds[second + 1] == "FusedMatMul"
    for node in backward.graph:
        if node.op_type == "DequantizeLinear":
            assert len(node.outputs[0].uses()) == 1

    x, g = rng.normal(size=(4, 64)).astype(np.float32), rng.normal(size=(4, 64)).astype(np.float32)
    stored = quantized * (scales[:, None] if axis == 0 else scales)
    w = stored if layout == "[in, out]" else stored.T
    y = np.tanh(x.astype(np.float64) @ w)
    expected = (g * (1.0 - y * y)) @ w.T
    for as_written in (True, False):
        if not as_written and layout == "[in, out]":
            continue  # onnxruntime rewrites the *forward* MatMul to int8 activations at its defaults
        found = run(session(backward, as_written=as_written), {"x": x, "grad.t": g})["grad.x"]
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_gradients_of_values_inside_the_graph() -> None:
    """`differentiate` takes any value as a target, an initializer and an intermediate one too."""
    model = _with_weight(
        parse("(T[4,3] x, T[3,5] w) => (T[4,5] y) <T[4,3] h> { h = Tanh(x) y = MatMul(h, w) }"), "w", np.ones((3, 5))
    )
    graph = model.graph
    seed = ir.val("seed", ir.DataType.DOUBLE, [4, 5])
    graph.inputs.append(seed)
    hidden = next(node.outputs[0] for node in graph if node.op_type == "Tanh")
    gradients = differentiate(graph, {graph.outputs[0]: seed}, [graph.initializers["w"], hidden])
    graph.outputs.extend(gradients.values())
    rng = np.random.default_rng(5)
    feeds = {"x": rng.normal(size=(4, 3)), "seed": rng.normal(size=(4, 5))}
    _, dw, dh = Oracle(model)(feeds).values()
    np.testing.assert_allclose(dw, np.tanh(feeds["x"]).T @ feeds["seed"], atol=1e-14)
    np.testing.assert_allclose(dh, feeds["seed"] @ np.ones((5, 3)), atol=1e-14)


def test_seeds_of_the_wrong_shape_are_refused() -> None:
    """A cotangent has the shape and type of its value, or the sweep would broadcast it without a word."""
    model = parse("(T[4,3] x) => (T[4,3] y) { y = Neg(x) }")
    seed = ir.val("seed", ir.DataType.DOUBLE, [1, 3])
    with pytest.raises(ValueError, match=r"the seed 'seed' has not the shape and type of 'y'"):
        differentiate(model.graph, {model.graph.outputs[0]: seed}, [model.graph.inputs[0]])
