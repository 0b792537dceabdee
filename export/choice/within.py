"""Formats that are chosen: as small as the error allows to decide the cuts, then as exact as the bytes allow.

`--quant auto` asks two questions of `devices.formats`:

1. before cuts: what is the least that all weights take while the predicted error of the outputs stays within
   `ERROR_BAR`? With these bytes the planner finds the fewest segments;
2. for each segment: which formats err least within the bytes that int8 everywhere would take, or within what the
   board has left if that is less, and in no more time than int8 everywhere would take there? Nor in more than
   `NEAR` times the fastest that errs by at most the segment's share of `HASTE_BAR`: that is 4 bits for one row.

So auto is never larger nor predicted slower than int8 everywhere unless the board forces it, and errs more than that
only where it pays in bytes that are short, or in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from console.errors import DoesNotFit
from devices.formats import Choice, Layer, Option, choose
from devices.speed import GENERIC, Cpu, lookup_ns, product_ns
from export.formats.grid import Grid
from export.formats.layout import Layout
from export.formats.registry import STORED
from export.formats.rewrite import weights_of
from export.gradient.dims import dims_of

CANDIDATES = ("fp16", "int8", "int4")  # integers of 8 bits in blocks are slow at accuracy level 0
PLAIN = "int8"  # what nothing chosen is larger or slower than
ERROR_BAR = 0.01  # squared relative error of the outputs: a cosine of 0.995
HASTE_BAR = ERROR_BAR / 4  # the same, where more bits would fit and fewer are faster
NEAR = 1.25  # times the fastest
SCALE = 1 << 50  # of errors as whole numbers
LEVEL = 0  # accuracy level of products with integers in blocks: float activations


@dataclass(frozen=True)
class Weighed:
    """A weight as the choice sees it: what it is, how many rows one run multiplies by it, its errors by format."""

    name: str
    layout: Layout
    rows: int
    errors: Mapping[str, float]

    def layer(self, grid: Grid, cpu: Cpu, written: bool) -> Layer:
        """With all its options; `written`: every format is restored to floats before each product."""
        return Layer(self.name, tuple(self._option(fmt, grid, cpu, written) for fmt in self.errors))

    def _option(self, fmt: str, grid: Grid, cpu: Cpu, written: bool) -> Option:
        size = 4 * self.layout.rows * self.layout.columns
        if fmt != "fp32":
            size = STORED[fmt].stored_bytes(self.layout, grid)
        if self.layout.kind == "table":
            taken = lookup_ns(fmt, self.rows, self.layout.columns, cpu)
        else:
            how = PLAIN if written and fmt in {"int4", "int8-blocks"} else fmt
            taken = product_ns(how, self.rows, self.layout.columns, self.layout.rows, cpu, size, LEVEL)
        return Option(fmt, size, self.errors[fmt], taken)


def weighed(model: ir.Model, measured: Mapping[str, Mapping[str, float]]) -> list[Weighed]:
    """The weights of a frozen model that have formats."""
    out = []
    for weight in weights_of(model):
        if weight.layout is not None and weight.name in measured:
            node = next(iter(weight.value.uses())).node
            out.append(Weighed(weight.name, weight.layout, _rows(node, weight.layout), measured[weight.name]))
    return out


def products_of(model: ir.Model) -> list[int]:
    """How many rows one run multiplies by each weight that is no table."""
    weights = [w for w in weights_of(model) if w.layout is not None and w.layout.kind != "table"]
    return [_rows(next(iter(w.value.uses())).node, w.layout) for w in weights if w.layout is not None]


def _rows(node: ir.Node, layout: Layout) -> int:
    """How many rows one run multiplies by a weight, or looks up."""
    made = [int(d) for d in dims_of(node.outputs[0]) if isinstance(d, int)]
    if layout.kind == "filter":
        return max(1, math.prod(made) // layout.rows)
    return max(1, math.prod(made[:-1]))


def smallest(weights: Sequence[Weighed], grid: Grid) -> dict[str, str]:
    """The formats that take least while the error of all together is within the bar; fp32 everywhere always is."""
    layers = [w.layer(grid, GENERIC, written=False) for w in weights]
    most = sum(max(o.stored_bytes for o in layer.options) for layer in layers)
    low, high = sum(min(o.stored_bytes for o in layer.options) for layer in layers), most
    found = choose(layers, high)
    while low < high:
        middle = (low + high) // 2
        tried = choose(layers, middle)
        if tried.error <= ERROR_BAR:
            # what was chosen may be smaller than what was allowed
            found, high = tried, min(middle, tried.stored_bytes)
        else:
            low = middle + 1
        if high - low < most >> 12:
            break
    return dict(zip((layer.name for layer in layers), found.formats, strict=True))


@dataclass(frozen=True)
class Limits:
    """What the weights of one segment may take and err.

    Attributes:
        room_bytes: what they may take on the board.
        least_bytes: what the error bar makes them take, where that is more than int8.
        error: what they may err where that is faster.
    """

    room_bytes: int
    least_bytes: int = 0
    error: float = 0.0


def spend(
    weights: Sequence[Weighed], grid: Grid, cpu: Cpu, limits: Limits, known: Mapping[str, str], *, written: bool
) -> dict[str, str]:
    """The formats of one segment that err least: see the top.

    Args:
        weights: of the segment.
        grid: settings of formats.
        cpu: of the board.
        limits: what they may take and err.
        known: formats of weights that an earlier segment has chosen.
        written: see `Weighed.layer`.

    Raises:
        DoesNotFit: not even the smallest formats do.
    """
    layers = [_fixed(w.layer(grid, cpu, written), known) for w in weights]
    plain = [_plain(layer) for layer in layers]
    size = min(limits.room_bytes, max(limits.least_bytes, sum(option.stored_bytes for option in plain)))
    fastest = _fastest(layers, size, limits.error)
    found = _within(layers, size, min(sum(option.time_ns for option in plain), NEAR * fastest))
    return dict(zip((layer.name for layer in layers), found.formats, strict=True))


def _fastest(layers: Sequence[Layer], limit_bytes: int, limit_error: float) -> float:
    """The time of the fastest formats within bytes and error; infinite where there are none."""
    turned = [
        Layer(
            layer.name,
            tuple(Option(o.format, o.stored_bytes, float(o.time_ns), round(o.error * SCALE)) for o in layer.options),
        )
        for layer in layers
    ]
    try:
        return choose(turned, limit_bytes, int(limit_error * SCALE)).error
    except DoesNotFit:
        return math.inf


def _within(layers: Sequence[Layer], limit_bytes: int, limit_ns: float) -> Choice:
    """Within bytes and time, or only within bytes where nothing that small is that fast."""
    try:
        return choose(layers, limit_bytes, None if math.isinf(limit_ns) else int(limit_ns))
    except DoesNotFit:
        return choose(layers, limit_bytes)


def _fixed(layer: Layer, known: Mapping[str, str]) -> Layer:
    options = tuple(o for o in layer.options if o.format == known.get(layer.name, o.format))
    return Layer(layer.name, options or layer.options)


def _plain(layer: Layer) -> Option:
    """int8, or what a layer has that cannot be that."""
    return next((o for o in layer.options if o.format == PLAIN), layer.options[0])


def by_segment(readers: Mapping[str, Iterable[int]], cuts: Sequence[int], span: tuple[int, int]) -> list[set[str]]:
    """Which weights each segment of a span of units reads; `readers` are units by weight; cut c is before unit c."""
    return [
        {name for name, units in readers.items() if any(start <= unit < end for unit in units)}
        for start, end in pairwise([span[0], *cuts, span[1]])
    ]
