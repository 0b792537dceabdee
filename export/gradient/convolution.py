"""Rules of convolutions, one to three spatial axes, with groups, strides, dilations and every kind of pads.

Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4: each of the
two is the other's gradient of the input. The gradient of the weight is a convolution again: items and channels
change places, the cotangent is the kernel, and strides and dilations change places.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, fixed
from export.gradient.moves import zeros
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape
from export.gradient.windows import Window, auto_pad, ints, windows


def _attributes(axes: Sequence[Window], group: int) -> dict[str, int | list[int]]:
    strides, dilations = [a.stride for a in axes], [a.dilation for a in axes]
    return {"strides": strides, "dilations": dilations, "group": group, "kernel_shape": [a.kernel for a in axes]}


def _spread(t: Tape, g: ir.Value, w: ir.Value, axes: Sequence[Window], group: int) -> ir.Value:
    """What windows with cotangents `g` and weight `w` [out, in / group, kernel] give back to their cells.

    A rank among the channels may be 0, and onnxruntime leaves memory as it was where a convolution sums over
    nothing: a channel of zeros beside them keeps the sum from being empty.
    """
    if isinstance(dims_of(w)[0], str):
        g, w = _one_more(t, g, 1), _one_more(t, w, 0)
    left = [a.size - ((a.count - 1) * a.stride + a.extent - a.before - a.after) for a in axes]
    pads = [a.before for a in axes] + [a.after for a in axes]
    attributes = {**_attributes(axes, group), "pads": pads, "output_padding": left}
    channels = fixed(dims_of(w)[1]) * group
    dims = (dims_of(g)[0], channels, *(a.size for a in axes))
    return t.emit("ConvTranspose", [g, w], dims, dtype_of(g), attributes)


def _one_more(t: Tape, x: ir.Value, axis: int) -> ir.Value:
    """`x` and zeros after it along `axis`; runtimes reuse buffers by symbol, so that rank + 1 has its own."""
    dims = dims_of(x)
    extra = zeros(t, tuple(1 if i == axis else dim for i, dim in enumerate(dims)), dtype_of(x))
    longer = tuple(f"{dim}+1" if i == axis else dim for i, dim in enumerate(dims))
    return t.emit("Concat", [x, extra], longer, dtype_of(x), {"axis": axis})


def _cropped(t: Tape, x: ir.Value, axes: Sequence[Window]) -> tuple[ir.Value, list[int]]:
    """`x` without the cells that no window reaches, and the pads with which the last window ends at the last cell."""
    for i, a in enumerate(axes):
        if a.reach < 0:
            x = t.slice(x, i + 2, 0, a.size + a.reach)
    return x, [a.before for a in axes] + [max(a.reach, 0) for a in axes]


def _kernel(t: Tape, x: ir.Value, g: ir.Value, axes: Sequence[Window], group: int) -> ir.Value:
    """The gradient [out, in / group, kernel] of the weight, from cells `x` and cotangents `g` of the windows."""
    x, pads = _cropped(t, x, axes)
    x, g = _items_last(t, x, group, cells=True), _items_last(t, g, group, cells=False)
    strides, dilations = [a.dilation for a in axes], [a.stride for a in axes]
    attributes: dict[str, int | list[int]] = {"strides": strides, "dilations": dilations, "group": group}
    attributes.update(pads=pads, kernel_shape=[a.count for a in axes])
    dims = (dims_of(x)[0], dims_of(g)[0], *(a.kernel for a in axes))
    made = t.emit("Conv", [x, g], dims, dtype_of(g), attributes)
    return t.transpose(made, [1, 0, *range(2, len(dims))])


def _items_last(t: Tape, x: ir.Value, group: int, *, cells: bool) -> ir.Value:
    """Items and channels exchanged: [C, G N, ...] of cells [N, G C, ...], [G C, N, ...] of cotangents."""
    items, channels, *spatial = dims_of(x)
    rest = range(2, len(spatial) + 2)
    if group == 1:
        return t.transpose(x, [1, 0, *rest])
    part = fixed(channels) // group
    parted = t.reshape(x, (items, group, part, *spatial))
    later = [axis + 1 for axis in rest]
    if cells:
        return t.reshape(t.transpose(parted, [2, 1, 0, *later]), (part, group * fixed(items), *spatial))
    return t.reshape(t.transpose(parted, [1, 2, 0, *later]), (channels, items, *spatial))


def _bias(t: Tape, g: ir.Value) -> ir.Value:
    return t.reduce_sum(g, [i for i in range(len(dims_of(g))) if i != 1], keepdims=False)


def _kernel_sizes(w: ir.Value) -> list[int]:
    return [fixed(dim) for dim in dims_of(w)[2:]]


@rule("Conv", inputs=(0, 1, 2))
def conv(t: Tape, c: Call) -> Products:
    """`y = x * w + b`: dx = g *^T w (ConvTranspose), dw = x * g with items as channels, db = sum(g) per channel."""
    x, w, group = c.input(0), c.input(1), c.int("group", 1)
    axes = windows(c.node, dims_of(x)[2:], dims_of(c.y)[2:], _kernel_sizes(w))
    return {
        0: lambda: _spread(t, c.g, t.again(w), axes, group),
        1: lambda: _kernel(t, x, c.g, axes, group),
        2: lambda: _bias(t, c.g),
    }


def _transposed_windows(node: ir.Node) -> list[Window] | None:
    """The windows of a ConvTranspose: its output holds the cells; None where runtimes disagree on the pads."""
    x, w, y = (value for value in (node.inputs[0], node.inputs[1], node.outputs[0]) if value is not None)
    kernel = _kernel_sizes(w)
    rank = len(kernel)
    strides, dilations = (ints(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads, extra = ints(node, "pads", [0] * (2 * rank)), ints(node, "output_padding", [0] * rank)
    chosen = "output_shape" in node.attributes or auto_pad(node).startswith("SAME")
    made = []
    for i in range(rank):
        size, count = fixed(dims_of(y)[i + 2]), fixed(dims_of(x)[i + 2])
        before, after = pads[i], pads[i + rank]
        if chosen:
            total = (count - 1) * strides[i] + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - size
            if total < 0 or total % 2:
                return None
            before = after = total // 2
        elif auto_pad(node) == "VALID":
            before = after = 0
        made.append(Window(size, count, kernel[i], strides[i], dilations[i], before, after))
    return made


def _uneven(node: ir.Node) -> str | None:
    return "its pads are uneven and chosen by the runtime" if _transposed_windows(node) is None else None


@rule("ConvTranspose", inputs=(0, 1, 2), check=_uneven)
def conv_transpose(t: Tape, c: Call) -> Products:
    """`y = x *^T w + b`: dx = g * w (Conv), dw = g * x with items as channels, db = sum(g) per channel."""
    x, w, group = c.input(0), c.input(1), c.int("group", 1)
    axes = _transposed_windows(c.node) or []

    def dx() -> ir.Value:
        g, pads = _cropped(t, c.g, axes)
        attributes = {**_attributes(axes, group), "pads": pads}
        return t.emit("Conv", [g, t.again(w)], dims_of(x), dtype_of(x), attributes)

    return {0: dx, 1: lambda: _kernel(t, c.g, x, axes, group), 2: lambda: _bias(t, c.g)}
