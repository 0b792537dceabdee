"""What quantized nodes must return, in float64, and how far a kernel may be from it.

Kernels add in float32. A sum of K products, added in blocks, errs by some sqrt(K) 2^-24 of what was added, and never by
more than K 2^-24 of it: 1e-5 of the largest output is above the first for every K up to 10^4, and far below what one
wrong byte of a weight does. Where summands cancel, outputs are small beside what was added; so 2^-22 of sum |x| |w| is
allowed as well.

MatMulNBits at accuracy level 4 rounds its input to int8 first, block by block, with steps of max|x| / 127. Each input
moves by half a step at most, so the product by no more than sum |w| step / 2: a bound, not a guess.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.oracle.stored import Float64, Stored, number

BAR = 1e-5
ADDED_BAR = 2.0**-22
ROWS_JUDGED = 32  # of a product's input; every output channel is judged with each of them
ROWS_AT_ONCE = 1024
X86 = ("x86_64", "AMD64", "i686")

Array = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Entries of an output: found, expected, and how far they may be apart."""

    found: Float64
    expected: Float64
    allowed: Float64

    def largest(self) -> float:
        """The largest expected magnitude."""
        return float(np.abs(self.expected).max(initial=0))

    def misses(self) -> Array:
        """Which entries are further apart than allowed, or no numbers where numbers are expected."""
        with np.errstate(invalid="ignore"):
            near = np.abs(self.found - self.expected) <= self.allowed
        same_kind = (self.found == self.expected) | (np.isnan(self.found) & np.isnan(self.expected))
        return np.asarray(~(near | same_kind))

    def error(self) -> float:
        """The largest difference relative to the largest expected magnitude."""
        finite = np.isfinite(self.expected)
        apart = np.abs(self.found[finite] - self.expected[finite]).max(initial=0)
        return float(apart) / (self.largest() or 1.0)


def spread(count: int, limit: int = ROWS_JUDGED) -> NDArray[np.int64]:
    """At most `limit` of so many indices, at even distances, the first and the last among them.

    >>> spread(9, 3).tolist(), spread(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, limit)).astype(np.int64))


def product(x: Array, y: Array, weight: Stored, turned: bool, alpha: float = 1.0, added: Array | None = None) -> Sample:
    """y = alpha x W + added.

    Args:
        x: [..., K].
        y: [..., N], what was found.
        weight: [N, K] where `turned`, else [K, N].
        turned: whether the rows of the weight are output channels.
        alpha: a factor.
        added: broadcast to [..., N].
    """
    rows, found = _matrix(x), _matrix(y)
    picked = spread(len(rows))
    x64, y64 = rows[picked].astype(np.float64), found[picked].astype(np.float64)
    expected, size = _multiplied(x64, weight, turned), _multiplied(np.abs(x64), weight, turned, magnitude=True)
    expected, size = alpha * expected, abs(alpha) * size
    if added is not None:
        more = _matrix(np.broadcast_to(added, y.shape))[picked].astype(np.float64)
        expected, size = expected + more, size + np.abs(more)
    return Sample(y64, expected, _allowed(expected, size))


def products(x: Array, y: Array, weight: Stored, turned: bool, alpha: float = 1.0) -> Sample:
    """y = alpha x W of matrices in a batch: x [..., B, M, K], y [..., B, M, N], weight [B, N, K] or [B, K, N].

    Several batch axes count as one; x may have fewer of them. Where y has other axes than the weight, its matrices
    are repeated, and what is repeated is multiplied in one piece.
    """
    batch, inner = weight.shape[:-2], weight.shape[-2:]
    x = np.broadcast_to(x, (*y.shape[:-2], *x.shape[-2:]))
    if y.shape[-2 - len(batch) : -2] != batch:
        x64, w = alpha * x.astype(np.float64), np.swapaxes(weight.whole(), -1, -2) if turned else weight.whole()
        expected = x64 @ w
        return Sample(y.astype(np.float64), expected, _allowed(expected, np.abs(x64) @ np.abs(w)))
    left, right = (array.reshape(-1, int(np.prod(batch)), *array.shape[-2:]) for array in (x, y))
    parts = []
    for position, place in enumerate(np.ndindex(*batch)):
        held = weight.rows(np.array(place[:1]))[0][tuple(place[1:])]
        one = Stored(weight.name, weight.format, inner, held.__getitem__)
        parts.append(product(left[:, position], right[:, position], one, turned, alpha))
    together = (np.concatenate([getattr(part, name) for part in parts]) for name in ("found", "expected", "allowed"))
    return Sample(*together)


def rounded_product(x: Array, y: Array, weight: Stored, block: int, added: Array | None = None) -> Sample:
    """The same of MatMulNBits at accuracy level 4, which rounds x to int8 in blocks."""
    exact = product(x, y, weight, True, 1.0, added)
    x64 = _matrix(x)[spread(len(_matrix(x)))].astype(np.float64)
    return Sample(
        exact.found, exact.expected, exact.allowed + _multiplied(_moved(x64, block), weight, True, magnitude=True)
    )


def _moved(x: Float64, block: int) -> Float64:
    """By how much each entry of x [rows, K] can move when it is rounded to int8."""
    if platform.machine() not in X86:
        # kernels for Arm may take one step per row, with a zero point that is itself rounded
        return np.repeat(np.abs(x).max(axis=1, keepdims=True) / 127, x.shape[1], axis=1)
    padded = np.pad(np.abs(x), ((0, 0), (0, -x.shape[1] % block)))
    steps = padded.reshape(len(x), -1, block).max(axis=2) / 127
    # a quotient next to the middle of two integers may go either way
    return np.repeat(steps * (0.5 + 1e-4), block, axis=1)[:, : x.shape[1]]


def _matrix(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _multiplied(x: Float64, weight: Stored, turned: bool, magnitude: bool = False) -> Float64:
    """x W or x |W|, a part of the weight at a time."""
    out = np.zeros((len(x), weight.shape[0] if turned else weight.shape[1]))
    for start in range(0, weight.shape[0], ROWS_AT_ONCE):
        at = np.arange(start, min(start + ROWS_AT_ONCE, weight.shape[0]))
        part = np.abs(weight.rows(at)) if magnitude else weight.rows(at)
        if turned:
            out[:, at] = x @ part.T
        else:
            out += x[:, at] @ part
    return out


def _allowed(expected: Float64, size: Float64) -> Float64:
    return np.asarray(BAR * np.abs(expected).max(initial=0) + ADDED_BAR * size)


def same(found: Array, expected: Float64) -> Sample:
    """Numbers that are restored one by one: each within the rounding of float32."""
    return Sample(found.astype(np.float64), expected, np.abs(expected) * ADDED_BAR + np.finfo(np.float32).tiny)


def looked_up(indices: Array, y: Array, weight: Stored) -> Sample:
    """Rows of a table."""
    flat = indices.reshape(-1).astype(np.int64) % weight.shape[0]
    return same(y, weight.rows(flat).reshape(y.shape))


def convolution(node: ir.Node, x: Array, y: Array, weight: Stored, bias: Array | None) -> Sample:
    """Conv at pixels that lie at even distances over all items, for every filter."""
    w = weight.whole()
    axes = w.ndim - 2
    kernel, group = w.shape[2:], number(node, "group", 1)
    strides, dilations = (_ints(node, name, [1] * axes) for name in ("strides", "dilations"))
    before = _pads(node, x.shape[2:], kernel, strides, dilations)
    padded = np.pad(x, ((0, 0), (0, 0), *before)).astype(np.float64)
    shape = (y.shape[0], *y.shape[2:])
    at = np.unravel_index(spread(int(np.prod(shape)), 8 * ROWS_JUDGED), shape)
    windows = _windows(np.moveaxis(padded, 1, -1), at, kernel, strides, dilations)
    found = np.moveaxis(y, 1, -1)[at].astype(np.float64)
    expected, size = np.empty(found.shape), np.empty(found.shape)
    filters, channels = w.shape[0] // group, w.shape[1]
    for g in range(group):
        own = slice(g * filters, (g + 1) * filters)
        columns = windows[..., g * channels : (g + 1) * channels].reshape(len(found), -1)
        flat = np.moveaxis(w[own], 1, -1).reshape(filters, -1).T
        expected[:, own], size[:, own] = columns @ flat, np.abs(columns) @ np.abs(flat)
    if bias is not None:
        expected, size = expected + bias, size + np.abs(bias)
    return Sample(found, expected, _allowed(expected, size))


def _windows(x: Float64, at: tuple[Array, ...], kernel: tuple[int, ...], steps: list[int], gaps: list[int]) -> Float64:
    """What the kernel sees at some outputs: x [items, ..., channels] -> [outputs, *kernel, channels]."""
    index: list[Array] = [at[0].reshape(-1, *[1] * len(kernel))]
    for axis, width in enumerate(kernel):
        reach = np.arange(width).reshape([-1 if i == axis else 1 for i in range(len(kernel))])
        index.append(at[axis + 1].reshape(-1, *[1] * len(kernel)) * steps[axis] + reach * gaps[axis])
    return np.asarray(x[tuple(index)])


def _pads(
    node: ir.Node, sizes: tuple[int, ...], kernel: tuple[int, ...], steps: list[int], gaps: list[int]
) -> list[tuple[int, int]]:
    """Before and behind each axis."""
    axes, auto = len(kernel), node.attributes.get_string("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        reach = [gap * (width - 1) + 1 for gap, width in zip(gaps, kernel, strict=True)]
        all_of_it = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, steps, reach, strict=True)]
        less = [n // 2 for n in all_of_it]
        pairs = [(a, n - a) for a, n in zip(less, all_of_it, strict=True)]
        return pairs if auto == "SAME_UPPER" else [(b, a) for a, b in pairs]
    pads = _ints(node, "pads", [0] * 2 * axes)
    return list(zip(pads[:axes], pads[axes:], strict=True))


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())
