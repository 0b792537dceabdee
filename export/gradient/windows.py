"""The windows of convolutions and pools: per spatial axis sizes, steps and pads as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from export.gradient.dims import Dims, fixed


@dataclass(frozen=True)
class Window:
    """One axis: `count` windows of `kernel` cells over `size` cells.

    Cell j of window p is p stride + j dilation - before.
    """

    size: int
    count: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        """The cells from the first to the last of one window."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def reach(self) -> int:
        """The cells after the last that the last window covers; negative where cells are left over."""
        return (self.count - 1) * self.stride + self.extent - self.size - self.before


def ints(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute of integers."""
    attribute = node.attributes.get(name)
    return list(default) if attribute is None else list(attribute.as_ints())


def auto_pad(node: ir.Node) -> str:
    """How pads are chosen; NOTSET means by the attribute."""
    attribute = node.attributes.get("auto_pad")
    return "NOTSET" if attribute is None else attribute.as_string()


def windows(node: ir.Node, cells: Dims, counts: Dims, kernel: Sequence[int]) -> list[Window]:
    """Per spatial axis the windows of a convolution or a pool, pads resolved.

    Args:
        node: Conv, MaxPool, AveragePool.
        cells: spatial sizes of the input.
        counts: spatial sizes of the output.
        kernel: spatial sizes of the kernel.
    """
    rank = len(kernel)
    strides, dilations = (ints(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads, mode = ints(node, "pads", [0] * (2 * rank)), auto_pad(node)
    made = []
    for i in range(rank):
        size, count = fixed(cells[i]), fixed(counts[i])
        before, after = pads[i], pads[i + rank]
        if mode != "NOTSET":
            extent = (kernel[i] - 1) * dilations[i] + 1
            total = max(0, (count - 1) * strides[i] + extent - size) if mode.startswith("SAME") else 0
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
            after = total - before
        made.append(Window(size, count, kernel[i], strides[i], dilations[i], before, after))
    return made
