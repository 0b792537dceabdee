"""The arithmetic of quantized graphs in numpy, as the operators' specifications say it.

Sources: the ONNX operators DynamicQuantizeLinear, QuantizeLinear, MatMulInteger, ConvInteger and Conv. Products of
integers are added up in float64, where they are exact (255 x 127 times a length of 10^11 is below 2^53).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.oracle.expected import spread

Array = NDArray[Any]
Exact = NDArray[np.float64]
Around = list[tuple[int, int]]
Axes = tuple[int, ...]

# runtimes multiply by a reciprocal or divide, in one or the other order: so close to .5 either side is right
TIE = 1e-4
MOST_ROWS, MOST_ITEMS = 256, 2  # of one run that are multiplied by numpy


@dataclass(frozen=True)
class Quantized:
    """x as integers: `q` uint8, x is about (q - zero_point) scale; `tie` marks where q may be one step aside."""

    q: Array
    scale: np.float32
    zero_point: int
    tie: NDArray[np.bool_]


def quantize_dynamic(x: Array) -> Quantized:
    """DynamicQuantizeLinear: uint8 over the range of x, with zero in it.

    >>> found = quantize_dynamic(np.array([-1.0, 0.0, 1.55], np.float32))
    >>> found.q.tolist(), float(found.scale), found.zero_point
    ([0, 100, 255], 0.009999999776482582, 100)
    """
    return quantize(x, *range_of(x.min(initial=0), x.max(initial=0)))


def range_of(low: Any, high: Any) -> tuple[np.float32, int]:
    """Scale and zero point of uint8 over a range, with zero in it."""
    zero = np.float32(0)
    low, high = np.minimum(np.float32(low), zero), np.maximum(np.float32(high), zero)
    scale = np.float32(1) if low == high else np.float32((high - low) / np.float32(255))
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


def quantize(x: Array, scale: np.float32, zero_point: int) -> Quantized:
    """QuantizeLinear to uint8: round half to even, add the zero point, cut off at 0 and 255."""
    steps = x.astype(np.float64) / np.float64(scale)
    q = np.clip(np.rint((x / scale).astype(np.float32)) + zero_point, 0, 255).astype(np.uint8)
    return Quantized(q, scale, zero_point, ties(steps))


def ties(steps: Exact) -> NDArray[np.bool_]:
    """Where a number of steps is so close to a half that rounding may go either way."""
    return np.abs(steps - np.floor(steps) - 0.5) < TIE


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its input, as its attributes say it; absent ones are empty."""

    strides: Sequence[int] = ()
    dilations: Sequence[int] = ()
    pads: Sequence[int] = ()
    auto_pad: str = "NOTSET"
    groups: int = 1

    def placed(self, pixels: Sequence[int], kernel: Sequence[int]) -> tuple[Around, Axes, Axes]:
        """Before and after each axis of pixels, strides, and dilations.

        >>> Window(auto_pad="SAME_UPPER", strides=[2]).placed([5], [4])
        ([(1, 2)], (2,), (1,))
        """
        rank = len(kernel)
        strides, dilations = tuple(self.strides) or (1,) * rank, tuple(self.dilations) or (1,) * rank
        pads = tuple(self.pads) if self.auto_pad == "NOTSET" and self.pads else (0,) * (2 * rank)
        around = list(zip(pads[:rank], pads[rank:], strict=True))
        if self.auto_pad.startswith("SAME"):
            spans = (d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
            totals = [
                max(0, (-(-size // step) - 1) * step + span - size)
                for size, step, span in zip(pixels, strides, spans, strict=True)
            ]
            less = [(total // 2, total - total // 2) for total in totals]
            around = less if self.auto_pad == "SAME_UPPER" else [(more, few) for few, more in less]
        return around, strides, dilations


def some(array: Array, window: Window | None) -> Array:
    """What is looked at of the input or the output of a product: rows, or items, at even distances."""
    if window is not None:
        return array[spread(len(array), MOST_ITEMS)]
    rows = array.reshape(-1, array.shape[-1])
    return rows[spread(len(rows), MOST_ROWS)]


def multiply(x: Array, w: Array, window: Window | None) -> Exact:
    """x W, or the convolution of x with W where there is a window; of integers, in float64.

    Args:
        x: [..., in], or [items, channels, *pixels].
        w: [in, out], or [out, channels of a group, *kernel].
        window: of a convolution.
    """
    a, b = x.astype(np.float64), w.astype(np.float64)
    return a @ b if window is None else _convolve(a, b, window)


def _convolve(x: Exact, w: Exact, window: Window) -> Exact:
    """Item by item, and for each place of the kernel one product over all pixels: no window is ever spelled out."""
    kernel, groups = w.shape[2:], window.groups
    around, strides, dilations = window.placed(x.shape[2:], kernel)
    padded = np.pad(x, [(0, 0), (0, 0), *around])
    made = [
        (size - step * (length - 1) - 1) // stride + 1
        for size, step, length, stride in zip(padded.shape[2:], dilations, kernel, strides, strict=True)
    ]
    filters = w.reshape(groups, len(w) // groups, w.shape[1], *kernel)
    out = np.zeros((len(x), groups, len(w) // groups, math.prod(made)))
    for item, pixels in enumerate(padded):
        for at in np.ndindex(*kernel):
            here: tuple[Any, ...] = (..., *at)
            places: list[Any] = [slice(None)]
            places += [
                slice(k * step, k * step + stride * (size - 1) + 1, stride)
                for k, step, stride, size in zip(at, dilations, strides, made, strict=True)
            ]
            out[item] += filters[here] @ pixels[tuple(places)].reshape(groups, w.shape[1], -1)
    return out.reshape(len(x), len(w), *made)
