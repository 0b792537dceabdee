from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from export.gradient.backward import build_backward
from tests.export.gradient.harness import assert_gradients, draw, parse, run, session

DRAWN = settings(max_examples=25, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window that fits at least once."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def room(self) -> int:
        """Steps of one cell that the window can take."""
        return self.size + self.before + self.after - (self.kernel - 1) * self.dilation - 1


@st.composite
def axes(draws: st.DrawFn, *, pads: int | None = None) -> list[Axis]:
    """One to three axes; without `pads` no window lies in pads alone, as pools ask for."""
    made = []
    for _ in range(draws(st.integers(1, 3))):
        kernel, stride, dilation = (draws(st.integers(1, most)) for most in (3, 3, 2))
        most = pads if pads is not None else min(kernel - 1, 2) if dilation == 1 else 0
        before, after = (draws(st.integers(0, most)) for _ in range(2))
        least = max(1, (kernel - 1) * dilation + 1 - before - after)
        made.append(Axis(draws(st.integers(least, least + 3)), kernel, stride, dilation, before, after))
    return made


def settings_of(drawn: list[Axis]) -> str:
    """Strides, dilations and pads as attributes in ONNX text."""
    pads = [a.before for a in drawn] + [a.after for a in drawn]
    return f"strides={[a.stride for a in drawn]}, dilations={[a.dilation for a in drawn]}, pads={pads}"


def text(*dims: int) -> str:
    """A shape in ONNX text."""
    return ",".join(map(str, dims))


@DRAWN
@given(
    drawn=axes(pads=2),
    groups=st.integers(1, 2),
    inside=st.integers(1, 2),
    out=st.integers(1, 2),
    items=st.integers(1, 2),
)
def test_convolutions_of_any_form(drawn: list[Axis], groups: int, inside: int, out: int, items: int) -> None:
    """Conv has gradients of cells, weight and bias with any groups, strides, dilations and pads."""
    counts = [a.room // a.stride + 1 for a in drawn]
    x, w = (items, groups * inside, *(a.size for a in drawn)), (groups * out, inside, *(a.kernel for a in drawn))
    body = f"y = Conv<{settings_of(drawn)}, group={groups}>(x, w, b)"
    result = text(items, groups * out, *counts)
    model = parse(f"(T[{text(*x)}] x, T[{text(*w)}] w, T[{groups * out}] b) => (T[{result}] y) {{ {body} }}")
    assert_gradients(model, draw(model), ["x", "w", "b"])


@DRAWN
@given(drawn=axes(pads=0), groups=st.integers(1, 2), inside=st.integers(1, 2), out=st.integers(1, 2), data=st.data())
def test_transposed_convolutions_of_any_form(
    drawn: list[Axis], groups: int, inside: int, out: int, data: st.DataObject
) -> None:
    """ConvTranspose likewise, with output pads below the stride."""
    counts = [a.room // a.stride + 1 for a in drawn]
    extra = [data.draw(st.integers(0, a.stride - 1)) for a in drawn]
    sizes = [
        (n - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 + e for n, a, e in zip(counts, drawn, extra, strict=True)
    ]
    x, w = (1, groups * inside, *counts), (groups * inside, out, *(a.kernel for a in drawn))
    body = f"y = ConvTranspose<{settings_of(drawn)}, group={groups}, output_padding={extra}>(x, w)"
    result = text(1, groups * out, *sizes)
    model = parse(f"(T[{text(*x)}] x, T[{text(*w)}] w) => (T[{result}] y) {{ {body} }}")
    assert_gradients(model, draw(model), ["x", "w"])


def counts_of(drawn: list[Axis], *, up: bool) -> list[int]:
    """Windows per axis; where their number is rounded up, one that would begin in the pads behind is left out."""
    counts = []
    for a in drawn:
        count = math.ceil(a.room / a.stride) + 1 if up else a.room // a.stride + 1
        counts.append(count - 1 if (count - 1) * a.stride >= a.size + a.before else count)
    return counts


@DRAWN
@given(drawn=axes(), up=st.booleans())
def test_largest_of_any_windows(drawn: list[Axis], *, up: bool) -> None:
    """MaxPool takes any windows, their number rounded up or down."""
    window = f"kernel_shape={[a.kernel for a in drawn]}, ceil_mode={int(up)}, {settings_of(drawn)}"
    x, y = (2, 1, *(a.size for a in drawn)), (2, 1, *counts_of(drawn, up=up))
    model = parse(f"(T[{text(*x)}] x) => (T[{text(*y)}] y) {{ y = MaxPool<{window}>(x) }}")
    assert_gradients(model, draw(model), ["x"])


@DRAWN
@given(drawn=axes(), up=st.booleans(), padded=st.booleans())
def test_means_of_any_windows(drawn: list[Axis], *, up: bool, padded: bool) -> None:
    """AveragePool likewise, with pads counted or not: the transpose of what onnxruntime makes of unit vectors."""
    kernel = [a.kernel for a in drawn]
    window = f"kernel_shape={kernel}, ceil_mode={int(up)}, count_include_pad={int(padded)}, {settings_of(drawn)}"
    cells, counts = [a.size for a in drawn], counts_of(drawn, up=up)
    size, count = math.prod(cells), math.prod(counts)
    body = f"(T[{text(size, 1, *cells)}] x) => (T[{text(size, 1, *counts)}] y) {{ y = AveragePool<{window}>(x) }}"
    model = parse(body, "float")
    units = np.eye(size, dtype=np.float32).reshape(size, 1, *cells)
    means = run(session(model, as_written=True), {"x": units})["y"].reshape(size, count)
    g = np.random.default_rng(2).normal(size=(size, 1, *counts)).astype(np.float32)
    found = run(session(build_backward(model, wanted=["x"]), as_written=True), {"x": units, "grad.y": g})["grad.x"]
    np.testing.assert_allclose(found.reshape(size, size), g.reshape(size, count) @ means.T, rtol=0, atol=1e-5)


MAPPINGS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@DRAWN
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=2, max_size=2),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    mapping=st.sampled_from(MAPPINGS),
    rounding=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_resizes_of_any_form(sizes: list[tuple[int, int]], mode: str, mapping: str, rounding: str) -> None:
    """Resize to any sizes, larger and smaller, in every mode and mapping of pixels."""
    before, after = [n for n, _ in sizes], [n for _, n in sizes]
    # the evaluator forgets that the only pixel of a result lies on the first of the source
    assume(mapping != "pytorch_half_pixel" or 1 not in after)
    flags = f'mode="{mode}", coordinate_transformation_mode="{mapping}", nearest_mode="{rounding}"'
    constants = f"<int64[4] s = {{1, 2, {after[0]}, {after[1]}}}>"
    model = parse(
        f"(T[{text(1, 2, *before)}] x) => (T[{text(1, 2, *after)}] y) {constants} {{ y = Resize<{flags}>(x, , , s) }}"
    )
    assert_gradients(model, draw(model), ["x"], 2e-6)


@DRAWN
@given(
    shape=st.lists(st.integers(1, 3), min_size=3, max_size=5),
    op=st.sampled_from(
        ["InstanceNormalization<epsilon=0.1>", "GroupNormalization<epsilon=0.1, num_groups=1>", "batch"]
    ),
)
def test_normalizations_of_any_shape(shape: list[int], op: str) -> None:
    """Statistics are taken over the right axes whatever their number."""
    channels = shape[1]
    vectors = f"T[{channels}] s, T[{channels}] b"
    body = f"y = {op}(x, s, b)"
    wanted = ["x", "s", "b"]
    if op == "batch":
        vectors, body = f"{vectors}, T[{channels}] m, T[{channels}] p", "y = BatchNormalization(x, s, b, m, p)"
        wanted = ["x", "s", "b", "m", "p"]
    body = body.replace("num_groups", "stash_type=11, num_groups")  # else it computes in float32
    model = parse(f"(T[{text(*shape)}] x, {vectors}) => (T[{text(*shape)}] y) {{ {body} }}", opset=21)
    assert_gradients(model, draw(model), wanted)
