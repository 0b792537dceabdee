"""Rules of operators that are linear in what they lay out: grids of an affine map, and columns as pictures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx_ir as ir

from export.gradient.constants import constant_ints
from export.gradient.dims import dims_of, dtype_of, fixed, size_of
from export.gradient.moves import Array
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape
from export.gradient.windows import ints


def _one_wide(node: ir.Node) -> str | None:
    sides = dims_of(node.outputs[0])[1:-1]
    corners = node.attributes.get_int("align_corners", 0)
    return "corners of one pixel are to be aligned" if corners and 1 in sides else None


@rule("AffineGrid", inputs=(0,), check=_one_wide)
def affine_grid(t: Tape, c: Call) -> Products:
    """Jaderberg et al., arXiv:1506.02025, equation 1: y = theta p at every place p of a picture, theta: g^T p."""
    sides = [fixed(dim) for dim in dims_of(c.y)[1:-1]]
    items = fixed(dims_of(c.y)[0])

    def product() -> ir.Value:
        places = t.constant(_places(sides, corners=bool(c.int("align_corners", 0))), dtype_of(c.y))
        return t.matmul(t.reshape(c.g, (items, math.prod(sides), len(sides))), places, trans_a=True)

    return {0: product}


def _places(sides: list[int], *, corners: bool) -> Array:
    """[places, axes + 1]: coordinates of -1 to 1, those of the innermost axis first, and 1."""
    ways = [np.linspace(-1, 1, n) if corners else (2 * np.arange(n) + 1) / n - 1 for n in sides]
    grid = [axis.reshape(-1) for axis in np.meshgrid(*ways, indexing="ij")]
    return np.stack([*grid[::-1], np.ones(math.prod(sides))], axis=1)


def _computed(node: ir.Node) -> str | None:
    if constant_ints(node.inputs[2]) is None:
        return "its blocks are not constant"
    return cuts_a_rank(node)


@rule("Col2Im", inputs=(0,), check=_computed)
def col2im(t: Tape, c: Call) -> Products:
    """`y = columns added up where they lie in the picture`: dx = the columns of g, zeros beyond its edges."""
    x, block = c.input(0), constant_ints(c.input(2)) or []
    items, channels, *sides = (fixed(dim) for dim in dims_of(c.y))

    def product() -> ir.Value:
        flat = t.pad(t.reshape(c.g, (items, channels, math.prod(sides))), [0, 0, 0], [0, 0, 1])
        where = _columns(c.node, sides, block)
        dims = (items, channels, len(where))
        return t.reshape(t.emit("Gather", [flat, t.ints(where)], dims, dtype_of(x), {"axis": 2}), dims_of(x))

    return {0: product}


def _columns(node: ir.Node, sides: list[int], block: list[int]) -> list[int]:
    """Per cell of a block and then per block the pixel under it; one behind the last for none."""
    rank = len(sides)
    strides, dilations = (ints(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = ints(node, "pads", [0] * (2 * rank))
    extents = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    counts = [(sides[i] + pads[i] + pads[i + rank] - extents[i]) // strides[i] + 1 for i in range(rank)]
    found = []
    for cell in itertools.product(*map(range, block)):
        for at in itertools.product(*map(range, counts)):
            place = [at[i] * strides[i] + cell[i] * dilations[i] - pads[i] for i in range(rank)]
            inside = all(0 <= p < n for p, n in zip(place, sides, strict=True))
            found.append(int(np.ravel_multi_index(place, sides)) if inside else size_of(sides))
    return found
