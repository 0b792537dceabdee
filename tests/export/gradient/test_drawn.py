from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import BroadcastableShapes, array_shapes, mutually_broadcastable_shapes

from tests.export.gradient.harness import assert_gradients, draw, parse

Shape = tuple[int, ...]
DRAWN = settings(max_examples=25, deadline=None, derandomize=True)

pairs = mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
products = mutually_broadcastable_shapes(signature="(m?,k),(k,n?)->(m?,n?)", max_dims=2, max_side=3)
matrices = mutually_broadcastable_shapes(signature="(m,k),(k,n)->(m,n)", max_dims=2, max_side=3)


def tensor(shape: Shape) -> str:
    """A tensor type in ONNX text; a scalar has no brackets."""
    return f"T[{','.join(map(str, shape))}]" if shape else "T"


@DRAWN
@given(drawn=pairs, op=st.sampled_from(["Add", "Sub", "Mul", "Div"]))
def test_arithmetic_sums_over_what_was_broadcast(drawn: BroadcastableShapes, op: str) -> None:
    """Operands of any two shapes that broadcast get gradients of their own shapes."""
    a, b = drawn.input_shapes
    model = parse(f"({tensor(a)} a, {tensor(b)} p) => ({tensor(drawn.result_shape)} y) {{ y = {op}(a, p) }}")
    assert_gradients(model, draw(model), ["a", "p"])


@DRAWN
@given(drawn=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
def test_where_sums_over_what_was_broadcast(drawn: BroadcastableShapes) -> None:
    """Where takes any three shapes that broadcast."""
    c, a, b = drawn.input_shapes
    condition = tensor(c).replace("T", "bool")
    text = f"({condition} c, {tensor(a)} a, {tensor(b)} b) => ({tensor(drawn.result_shape)} y) {{ y = Where(c, a, b) }}"
    model = parse(text)
    assert_gradients(model, draw(model), ["a", "b"])


@DRAWN
@given(drawn=products)
def test_matmul_of_any_ranks(drawn: BroadcastableShapes) -> None:
    """MatMul takes vectors, matrices and batches that broadcast, on both sides."""
    a, b = drawn.input_shapes
    model = parse(f"({tensor(a)} a, {tensor(b)} b) => ({tensor(drawn.result_shape)} y) {{ y = MatMul(a, b) }}")
    assert_gradients(model, draw(model), ["a", "b"])


@DRAWN
@given(drawn=matrices, trans_a=st.booleans(), trans_b=st.booleans())
def test_fused_matmul_with_any_transposes(drawn: BroadcastableShapes, *, trans_a: bool, trans_b: bool) -> None:
    """FusedMatMul takes batches that broadcast, transposed or not, and a factor."""
    a, b = drawn.input_shapes
    a = (*a[:-2], a[-1], a[-2]) if trans_a else a
    b = (*b[:-2], b[-1], b[-2]) if trans_b else b
    flags = f"<transA={int(trans_a)}, transB={int(trans_b)}, alpha=1.5>"
    text = f"y = com.microsoft.FusedMatMul{flags}(a, b)"
    model = parse(f"({tensor(a)} a, {tensor(b)} b) => ({tensor(drawn.result_shape)} y) {{ {text} }}")
    assert_gradients(model, draw(model), ["a", "b"])


@DRAWN
@given(shape=array_shapes(max_dims=3, max_side=4), data=st.data())
def test_slice_with_any_bounds(shape: Shape, data: st.DataObject) -> None:
    """Slice takes bounds that are negative, beyond the ends, or in the wrong order."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    begin, end = data.draw(st.tuples(st.integers(-6, 6), st.integers(-6, 6)))
    index = [slice(None)] * len(shape)
    index[axis] = slice(begin, end)
    result = np.empty(shape)[tuple(index)].shape
    constants = f"<int64[1] b = {{{begin}}}, int64[1] e = {{{end}}}, int64[1] x = {{{axis}}}>"
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) {constants} {{ y = Slice(a, b, e, x) }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(shape=array_shapes(max_dims=3, max_side=3), data=st.data(), op=st.sampled_from(["ReduceSum", "ReduceMean"]))
def test_reductions_over_any_axes(shape: Shape, data: st.DataObject, op: str) -> None:
    """Sums and means take any axes, kept or dropped."""
    rank = len(shape)
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    signed = [axis - rank if data.draw(st.booleans()) else axis for axis in axes]
    keep = data.draw(st.booleans())
    result = np.empty(shape).sum(axis=tuple(axes), keepdims=keep).shape
    constant = f"<int64[{len(axes)}] x = {{{', '.join(map(str, signed))}}}>"
    text = f"y = {op}<keepdims={int(keep)}>(a, x)"
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) {constant} {{ {text} }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(shape=array_shapes(max_dims=4, max_side=3), data=st.data())
def test_transpose_with_any_permutation(shape: Shape, data: st.DataObject) -> None:
    """Transpose is undone by the inverse permutation."""
    perm = data.draw(st.permutations(range(len(shape))))
    result = tuple(shape[i] for i in perm)
    text = f"y = Transpose<perm=[{', '.join(map(str, perm))}]>(a)"
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) {{ {text} }}")
    assert_gradients(model, draw(model), ["a"])
