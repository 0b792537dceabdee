from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import BroadcastableShapes, array_shapes, mutually_broadcastable_shapes

from tests.export.gradient.harness import assert_gradients, draw, parse
from tests.export.gradient.test_drawn import tensor

Shape = tuple[int, ...]
DRAWN = settings(max_examples=25, deadline=None, derandomize=True)

shapes = array_shapes(max_dims=3, max_side=4)
triples = mutually_broadcastable_shapes(num_shapes=3, min_dims=1, max_dims=3, max_side=3)


def ints(name: str, numbers: np.ndarray | list[int]) -> str:
    """A constant of integers in ONNX text."""
    array = np.asarray(numbers)
    return f"int64[{','.join(map(str, array.shape))}] {name} = {{{', '.join(map(str, array.reshape(-1).tolist()))}}}"


def indices(data: st.DataObject, shape: Shape, size: int) -> np.ndarray:
    """Drawn positions along an axis, from the front or from the back."""
    count = int(np.prod(shape))
    drawn = data.draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
    return np.array(drawn, np.int64).reshape(shape)


@DRAWN
@given(shape=shapes, data=st.data())
def test_slice_with_any_steps(shape: Shape, data: st.DataObject) -> None:
    """Slices go forwards and backwards in any steps, over any axes."""
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    index = [slice(None)] * len(shape)
    begins: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    for axis in axes:
        begin, end = data.draw(st.tuples(st.integers(-shape[axis], 6), st.integers(-6, 6)))
        step = data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
        index[axis] = slice(begin, end, step)
        begins, ends, steps = [*begins, begin], [*ends, end], [*steps, step]
    result = np.empty(shape)[tuple(index)].shape
    constants = ", ".join(ints(*pair) for pair in (("b", begins), ("e", ends), ("x", axes), ("s", steps)))
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) <{constants}> {{ y = Slice(a, b, e, x, s) }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(shape=shapes, mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]), data=st.data())
def test_pad_in_any_mode(shape: Shape, mode: str, data: st.DataObject) -> None:
    """Pads add zeros or copies on both sides of every axis; zeros may be negative, which cuts."""
    pads = []
    for _ in range(2):
        for size in shape:
            low, high = (-((size - 1) // 2), 3) if mode == "constant" else (0, min(3, size - (mode == "reflect")))
            pads.append(data.draw(st.integers(low, high)))
    rank = len(shape)
    result = tuple(size + pads[i] + pads[i + rank] for i, size in enumerate(shape))
    body = f'y = Pad<mode="{mode}">(a, p)'
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) <{ints('p', pads)}> {{ {body} }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(shape=shapes, picked=array_shapes(min_dims=0, max_dims=2, max_side=3), data=st.data())
def test_gather_with_any_index(shape: Shape, picked: Shape, data: st.DataObject) -> None:
    """Gather takes indices of any shape along any axis, the same one several times."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    index = indices(data, picked, shape[axis])
    result = (*shape[:axis], *picked, *shape[axis + 1 :])
    constant = ints("i", index).replace("int64[]", "int64")
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) <{constant}> {{ y = Gather<axis={axis}>(a, i) }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(shape=shapes, add=st.booleans(), data=st.data())
def test_elements_taken_and_put(shape: Shape, data: st.DataObject, *, add: bool) -> None:
    """GatherElements and ScatterElements along any axis; where elements are added they may meet."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.integers(1, shape[axis]))
    picked = (*shape[:axis], count, *shape[axis + 1 :])
    index = indices(data, picked, shape[axis])
    if not add:  # distinct along the axis
        index = np.broadcast_to(np.arange(count).reshape([-1 if i == axis else 1 for i in range(len(shape))]), picked)
    flags = f'axis={axis}, reduction="{"add" if add else "none"}"'
    model = parse(
        f"({tensor(shape)} a, {tensor(picked)} u) => ({tensor(shape)} y, {tensor(picked)} z) <{ints('i', index)}> "
        f"{{ y = ScatterElements<{flags}>(a, i, u) z = GatherElements<axis={axis}>(a, i) }}"
    )
    assert_gradients(model, draw(model), ["a", "u"])


@DRAWN
@given(shape=array_shapes(min_dims=2, max_dims=3, max_side=3), add=st.booleans(), data=st.data())
def test_tuples_taken_and_put(shape: Shape, data: st.DataObject, *, add: bool) -> None:
    """GatherND and ScatterND by tuples that name any number of axes."""
    width = data.draw(st.integers(1, len(shape)))
    places = list(np.ndindex(*shape[:width]))
    chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=not add))
    rest = (len(chosen), *shape[width:])
    body = f'y = ScatterND<reduction="{"add" if add else "none"}">(a, i, u) z = GatherND(a, i)'
    model = parse(
        f"({tensor(shape)} a, {tensor(rest)} u) => ({tensor(shape)} y, {tensor(rest)} z) "
        f"<{ints('i', np.array(chosen))}> {{ {body} }}"
    )
    assert_gradients(model, draw(model), ["a", "u"])


@DRAWN
@given(shape=shapes, data=st.data())
def test_tiles_running_sums_and_the_largest(shape: Shape, data: st.DataObject) -> None:
    """Tile, CumSum and TopK along any axis."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    repeats = [data.draw(st.integers(1, 3)) for _ in shape]
    flags = f"exclusive={data.draw(st.integers(0, 1))}, reverse={data.draw(st.integers(0, 1))}"
    count, largest = data.draw(st.integers(1, shape[axis])), data.draw(st.integers(0, 1))
    tiled = tuple(size * n for size, n in zip(shape, repeats, strict=True))
    top = (*shape[:axis], count, *shape[axis + 1 :])
    model = parse(
        f"({tensor(shape)} a) => ({tensor(tiled)} y, {tensor(shape)} z, {tensor(top)} v) "
        f"<{ints('r', repeats)}, int64 x = {{{axis}}}, {ints('k', [count])}> "
        f"{{ y = Tile(a, r) z = CumSum<{flags}>(a, x) v, i = TopK<axis={axis}, largest={largest}>(a, k) }}"
    )
    assert_gradients(model, draw(model), ["a"])


REDUCED = ["ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"]


@DRAWN
@given(shape=shapes, data=st.data(), op=st.sampled_from(REDUCED))
def test_other_reductions_over_any_axes(shape: Shape, data: st.DataObject, op: str) -> None:
    """Extremes, norms and products take any axes, kept or dropped."""
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keep = data.draw(st.booleans())
    result = np.empty(shape).sum(axis=tuple(axes), keepdims=keep).shape
    body = f"y = {op}<keepdims={int(keep)}>(a, x)"
    model = parse(f"({tensor(shape)} a) => ({tensor(result)} y) <{ints('x', axes)}> {{ {body} }}")
    assert_gradients(model, draw(model), ["a"])


@DRAWN
@given(drawn=triples, op=st.sampled_from(["Max", "Min", "Sum", "Mean"]))
def test_operators_of_several_inputs(drawn: BroadcastableShapes, op: str) -> None:
    """Three operands of any shapes that broadcast get gradients of their own shapes."""
    a, b, c = (tensor(shape) for shape in drawn.input_shapes)
    model = parse(f"({a} a, {b} b, {c} c) => ({tensor(drawn.result_shape)} y) {{ y = {op}(a, b, c) }}")
    assert_gradients(model, draw(model), ["a", "b", "c"])


@DRAWN
@given(data=st.data())
def test_einsum_of_any_equation(data: st.DataObject) -> None:
    """One to three operands with labels in any order, summed or kept."""
    sizes = {"i": 2, "j": 3, "k": 1, "l": 2}
    terms = data.draw(
        st.lists(st.lists(st.sampled_from("ijkl"), min_size=1, max_size=3, unique=True), min_size=1, max_size=3)
    )
    known = sorted({label for term in terms for label in term})
    result = data.draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
    names = "abc"[: len(terms)]
    inputs = ", ".join(
        f"{tensor(tuple(sizes[label] for label in term))} {name}" for name, term in zip(names, terms, strict=True)
    )
    equation = ",".join("".join(term) for term in terms) + "->" + "".join(result)
    output = tensor(tuple(sizes[label] for label in result))
    body = f'y = Einsum<equation="{equation}">({", ".join(names)})'
    model = parse(f"({inputs}) => ({output} y) {{ {body} }}")
    assert_gradients(model, draw(model), list(names))
