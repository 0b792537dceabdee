from __future__ import annotations

import re

import numpy as np
import pytest

from export.gradient.backward import build_backward
from export.gradient.registry import operators
from export.gradient.sweep import FAMILIES
from tests.export.gradient import cases_functions, cases_moves, cases_pictures
from tests.export.gradient.harness import assert_gradients, assert_runtime_agrees, draw, parse
from tests.export.oracle import Oracle

# T is double against central differences and float under onnxruntime; inputs named p are positive.
PLAIN = {
    "Add, bias": "(T[2,3] a, T[3] b) => (T[2,3] y) { y = Add(a, b) }",
    "Add, both broadcast": "(T[2,1,3] a, T[4,1] b) => (T[2,4,3] y) { y = Add(a, b) }",
    "Add, same value twice": "(T[2,3] a) => (T[2,3] y) { y = Add(a, a) }",
    "Sub, scalar": "(T a, T[2,3] b) => (T[2,3] y) { y = Sub(a, b) }",
    "Mul, both broadcast": "(T[2,1,3] a, T[4,1] b) => (T[2,4,3] y) { y = Mul(a, b) }",
    "Mul, square": "(T[2,3] a) => (T[2,3] y) { y = Mul(a, a) }",
    "Div, both broadcast": "(T[2,1,3] a, T[4,1] p) => (T[2,4,3] y) { y = Div(a, p) }",
    "Mod": "(T[2,3] a, T[3] p) => (T[2,3] y) { y = Mod<fmod=1>(a, p) }",
    "Neg": "(T[2,3] a) => (T[2,3] y) { y = Neg(a) }",
    "Where, broadcast": "(bool[3] c, T[2,1] a, T[2,3] b) => (T[2,3] y) { y = Where(c, a, b) }",
    "Cast": "(T[2,3] a) => (double[2,3] y) { d = Cast<to=11>(a) y = Mul(d, d) }",
    "Clip": "(T[4,5] a) => (T[4,5] y) <T lo = {-0.5}, T hi = {0.7}> { y = Clip(a, lo, hi) }",
    "Clip, only above": "(T[4,5] a) => (T[4,5] y) <T hi = {0.3}> { y = Clip(a, , hi) }",
    "Pow 1": "(T[2,3] a) => (T[2,3] y) <T n = {1.0}> { y = Pow(a, n) }",
    "Pow 2": "(T[2,3] a) => (T[2,3] y) <T n = {2.0}> { y = Pow(a, n) }",
    "Pow 3": "(T[2,3] a) => (T[2,3] y) <T[1] n = {3.0}> { y = Pow(a, n) }",
    "Pow 4 as integer": "(T[2,3] a) => (T[2,3] y) <int64 n = {4}> { y = Pow(a, n) }",
    "Pow -1.5": "(T[2,3] p) => (T[2,3] y) <T n = {-1.5}> { y = Pow(p, n) }",
    "Sqrt": "(T[2,3] p) => (T[2,3] y) { y = Sqrt(p) }",
    "Reciprocal": "(T[2,3] p) => (T[2,3] y) { y = Reciprocal(p) }",
    "Exp": "(T[2,3] a) => (T[2,3] y) { y = Exp(a) }",
    "Log": "(T[2,3] p) => (T[2,3] y) { y = Log(p) }",
    "MatMul": "(T[2,3] a, T[3,4] b) => (T[2,4] y) { y = MatMul(a, b) }",
    "MatMul, rows in batches": "(T[2,5,3] a, T[3,4] b) => (T[2,5,4] y) { y = MatMul(a, b) }",
    "MatMul, batches broadcast": "(T[2,1,5,3] a, T[4,3,2] b) => (T[2,4,5,2] y) { y = MatMul(a, b) }",
    "MatMul, one matrix on the left": "(T[5,3] a, T[4,3,2] b) => (T[4,5,2] y) { y = MatMul(a, b) }",
    "MatMul, vector left": "(T[3] a, T[2,3,4] b) => (T[2,4] y) { y = MatMul(a, b) }",
    "MatMul, vector right": "(T[2,4,3] a, T[3] b) => (T[2,4] y) { y = MatMul(a, b) }",
    "MatMul, two vectors": "(T[3] a, T[3] b) => (T y) { y = MatMul(a, b) }",
    "Gemm": "(T[2,3] a, T[3,4] b, T[4] c) => (T[2,4] y) { y = Gemm(a, b, c) }",
    "Gemm, A^T": "(T[3,2] a, T[3,4] b) => (T[2,4] y) { y = Gemm<transA=1, alpha=0.5>(a, b) }",
    "Gemm, B^T": "(T[2,3] a, T[4,3] b, T c) => (T[2,4] y) { y = Gemm<transB=1, beta=0.25>(a, b, c) }",
    "Gemm, A^T B^T": (
        "(T[3,2] a, T[4,3] b, T[2,1] c) => (T[2,4] y) { y = Gemm<transA=1, transB=1, alpha=2.0, beta=3.0>(a, b, c) }"
    ),
    "FusedMatMul": "(T[2,3] a, T[3,4] b) => (T[2,4] y) { y = com.microsoft.FusedMatMul<alpha=0.5>(a, b) }",
    "FusedMatMul, A^T": "(T[2,3,5] a, T[3,4] b) => (T[2,5,4] y) { y = com.microsoft.FusedMatMul<transA=1>(a, b) }",
    "FusedMatMul, B^T": "(T[2,5,3] a, T[4,3] b) => (T[2,5,4] y) { y = com.microsoft.FusedMatMul<transB=1>(a, b) }",
    "FusedMatMul, A^T B^T": (
        "(T[2,1,3,5] a, T[4,2,3] b) => (T[2,4,5,2] y) "
        "{ y = com.microsoft.FusedMatMul<transA=1, transB=1, alpha=1.5>(a, b) }"
    ),
    "Identity": "(T[2,3] a) => (T[2,3] y) { y = Identity(a) }",
    "Reshape": "(T[2,3,4] a) => (T[6,4] y) <int64[2] s = {-1, 4}> { y = Reshape(a, s) }",
    "Squeeze": "(T[2,1,4] a) => (T[2,4] y) <int64[1] s = {1}> { y = Squeeze(a, s) }",
    "Unsqueeze": "(T[2,4] a) => (T[2,1,4] y) <int64[1] s = {1}> { y = Unsqueeze(a, s) }",
    "Flatten": "(T[2,3,4] a) => (T[2,12] y) { y = Flatten(a) }",
    "Transpose": "(T[2,3,4] a) => (T[4,2,3] y) { y = Transpose<perm=[2,0,1]>(a) }",
    "Transpose, reversed": "(T[2,3,4] a) => (T[4,3,2] y) { y = Transpose(a) }",
    "Expand": "(T[3,1] a) => (T[2,3,4] y) <int64[3] s = {2, 3, 4}> { y = Expand(a, s) }",
    "Concat": "(T[2,1] a, T[2,3] b) => (T[2,6] y) { y = Concat<axis=-1>(a, b, a) }",
    "Split": "(T[2,6] a) => (T[2,1] y, T[2,3] z) <int64[3] s = {1, 2, 3}> { y, unused, z = Split<axis=1>(a, s) }",
    "Slice, clamped": (
        "(T[4,5] a) => (T[2,4] y) <int64[2] b = {-3, 1}, int64[2] e = {-1, 9223372036854775807}> { y = Slice(a, b, e) }"
    ),
    "Slice, axis": (
        "(T[4,5] a) => (T[4,2] y) <int64[1] b = {2}, int64[1] e = {4}, int64[1] x = {-1}, int64[1] s = {1}> "
        "{ y = Slice(a, b, e, x, s) }"
    ),
    "Slice, nothing left": (
        "(T[4,5] a) => (T[4,0] y) <int64[1] b = {3}, int64[1] e = {2}, int64[1] x = {1}> { y = Slice(a, b, e, x) }"
    ),
    "Gather, first": "(T[2,3,4] a) => (T[2,4] y) <int64 i = {0}> { y = Gather<axis=1>(a, i) }",
    "Gather, last, axis kept": "(T[2,3,4] a) => (T[2,1,4] y) <int64[1] i = {-1}> { y = Gather<axis=1>(a, i) }",
    "ReduceSum": "(T[2,3,4] a) => (T[2,4] y) <int64[1] x = {1}> { y = ReduceSum<keepdims=0>(a, x) }",
    "ReduceSum, all": "(T[2,3] a) => (T y) { y = ReduceSum<keepdims=0>(a) }",
    "ReduceSum, of nothing": "(T[2,3] a) => (T[2,3] y) { y = ReduceSum<noop_with_empty_axes=1>(a) }",
    "ReduceMean": "(T[2,3,4] a) => (T[2,1,1] y) <int64[2] x = {-1, 1}> { y = ReduceMean(a, x) }",
    "ReduceL2": "(T[2,3,4] a) => (T[2,3,1] y) <int64[1] x = {-1}> { y = ReduceL2(a, x) }",
    "ReduceL2, dropped": "(T[2,3,4] a) => (T[3] y) <int64[2] x = {0, 2}> { y = ReduceL2<keepdims=0>(a, x) }",
    "LayerNormalization": "(T[2,3,4] a, T[4] s, T[4] b) => (T[2,3,4] y) { y = LayerNormalization(a, s, b) }",
    "LayerNormalization, two axes": (
        "(T[2,3,4] a, T[3,4] s) => (T[2,3,4] y) { y = LayerNormalization<axis=1, epsilon=0.1>(a, s) }"
    ),
    "LayerNormalization, broadcast scale": (
        "(T[2,3,4] a, T[1,4] s, T[4] b) => (T[2,3,4] y) { y = LayerNormalization<axis=-2>(a, s, b) }"
    ),
    "SimplifiedLayerNormalization": (
        "(T[2,3,4] a, T[4] s) => (T[2,3,4] y) { y = SimplifiedLayerNormalization<epsilon=0.01>(a, s) }"
    ),
    "LayerNormalization, opset 17": "(T[2,4] a, T[4] s, T[4] b) => (T[2,4] y) { y = LayerNormalization(a, s, b) }",
    "ReduceMean, opset 17": "(T[2,3,4] a) => (T[2,4] y) { y = ReduceMean<axes=[1], keepdims=0>(a) }",
    "RMSNormalization": "(T[2,3,4] a, T[4] s) => (T[2,3,4] y) { y = RMSNormalization(a, s) }",
    "RMSNormalization, two axes": (
        "(T[2,3,4] a, T[3,4] s) => (T[2,3,4] y) { y = RMSNormalization<axis=1, epsilon=0.1>(a, s) }"
    ),
    "Relu": "(T[4,5] a) => (T[4,5] y) { y = Relu(a) }",
    "Tanh": "(T[2,3] a) => (T[2,3] y) { y = Tanh(a) }",
    "Sigmoid": "(T[2,3] a) => (T[2,3] y) { y = Sigmoid(a) }",
    "Erf": "(T[2,3] a) => (T[2,3] y) { y = Erf(a) }",
    "Gelu": "(T[4,5] a) => (T[4,5] y) { y = Gelu(a) }",
    "Gelu, tanh": '(T[4,5] a) => (T[4,5] y) { y = Gelu<approximate="tanh">(a) }',
    "Softmax": "(T[2,3,4] a) => (T[2,3,4] y) { y = Softmax(a) }",
    "Softmax, axis": "(T[2,3,4] a) => (T[2,3,4] y) { y = Softmax<axis=1>(a) }",
    "LogSoftmax": "(T[2,3,4] a) => (T[2,3,4] y) { y = LogSoftmax<axis=-2>(a) }",
}
OPSETS = {
    **cases_functions.OPSETS,
    **cases_moves.OPSETS,
    "RMSNormalization": 23,
    "RMSNormalization, two axes": 23,
    "ReduceMean, opset 17": 17,
    "LayerNormalization, opset 17": 17,
}
CASES = {**PLAIN, **cases_functions.CASES, **cases_moves.CASES, **cases_pictures.CASES}
# Their matrices come from a kernel that computes in float32.
TOLERANCES = {name: 1e-6 for name in CASES if name.startswith("Resize")}


def wanted_of(text: str) -> list[str]:
    """The inputs of a case that have type T: all whose gradient is wanted."""
    inputs = text[: text.index("=>")]
    return re.findall(r"T(?:\[[\d,]+\])? (\w+)", inputs)


@pytest.mark.parametrize("name", CASES)
def test_rule_agrees_with_central_differences(name: str) -> None:
    """Every rule gives, for every input, the gradient that central differences in float64 give."""
    model = parse(CASES[name], "double", OPSETS.get(name, 20))
    assert_gradients(model, draw(model), wanted_of(CASES[name]), TOLERANCES.get(name, 1e-7))


@pytest.mark.parametrize("name", CASES)
def test_backward_graph_runs_on_the_runtime(name: str) -> None:
    """onnxruntime runs what every rule emits, unoptimized in file order and at its defaults, as numpy does."""
    model = build_backward(parse(CASES[name], "float", OPSETS.get(name, 20)), wanted=wanted_of(CASES[name]))
    assert_runtime_agrees(model, draw(model))


def test_every_rule_has_a_case() -> None:
    """No operator is in the table of rules that is not in the table of cases."""
    assert len(FAMILIES) == 16
    tested = set(re.findall(r"= (?:com\.microsoft\.)?(\w+)[<(]", " ".join(CASES.values())))
    assert {name.split("::")[-1] for name in operators()} <= tested


def test_cast_returns_to_the_type_it_came_from() -> None:
    """The gradient of a value that was widened for a while has that value's own type."""
    model = parse("(float[2,3] a) => (double[2,3] y) { d = Cast<to=11>(a) y = Mul(d, d) }")
    feeds = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "grad.y": np.full((2, 3), 0.5)}
    found = Oracle(build_backward(model, wanted=["a"]))(feeds)["grad.a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, feeds["a"])
