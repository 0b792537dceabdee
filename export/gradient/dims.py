"""Shapes as tuples of integers and rank symbols.

A frozen graph has one kind of dimension that is not a number: the rank of an adapter, `r_0`, `r_1`, ...
Everything else that is not a number is unknown and must be refused before a gradient is built, because
shape inference invents names such as `unk__10` instead of failing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import onnx_ir as ir

from console.errors import UnsupportedModel
from export.gradient.present import present

Dim = int | str
Dims = tuple[Dim, ...]

# A sum over a rank that may be 0 gets one more channel, of zeros: r_0+1.
RANK_SYMBOL = re.compile(r"r_\d+(\+1)?")
FACTOR_SYMBOL = re.compile(r"f_(\d+)")  # of a factor that is broadcast: 1, or so many

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def is_rank_symbol(dim: object) -> bool:
    """Whether `dim` names the rank of an adapter.

    >>> is_rank_symbol("r_0"), is_rank_symbol("r_0+1"), is_rank_symbol("batch"), is_rank_symbol(8)
    (True, True, False, False)
    """
    return isinstance(dim, str) and RANK_SYMBOL.fullmatch(dim) is not None


def most_of(dim: object) -> int | None:
    """How long an axis of broadcast factors may be; None of any other.

    >>> most_of("f_384"), most_of("r_0")
    (384, None)
    """
    found = FACTOR_SYMBOL.fullmatch(dim) if isinstance(dim, str) else None
    return None if found is None else int(found[1])


def shape_of(value: ir.Value) -> list[int | str | None] | None:
    """The dimensions as the graph states them: integers, names, None; None for an unknown rank."""
    shape = value.shape
    if shape is None and value.const_value is not None:
        return list(value.const_value.shape.numpy())
    if shape is None:
        return None
    return [dim if isinstance(dim, int) else dim.value for dim in shape]


def unknown_dims(value: ir.Value) -> list[str]:
    """What is neither a number nor one of our symbols in the shape of `value`, in words."""
    shape = shape_of(value)
    if shape is None:
        return ["the rank"]
    return [
        f"dimension {i} ({'unnamed' if dim is None else dim})"
        for i, dim in enumerate(shape)
        if not isinstance(dim, int) and not is_rank_symbol(dim) and most_of(dim) is None
    ]


def dims_of(value: ir.Value) -> Dims:
    """The shape of `value`.

    Raises:
        UnsupportedModel: A dimension is neither a number nor a rank symbol.
    """
    problems = unknown_dims(value)
    if problems:
        raise UnsupportedModel(
            f"Expected a known shape for value '{value.name}', found unknown {', '.join(problems)}; "
            "fix batch and sequence length and fold shapes before differentiating."
        )
    return tuple(dim for dim in present(shape_of(value)) if dim is not None)


def dtype_of(value: ir.Value) -> ir.DataType:
    """The element type of `value`.

    Raises:
        UnsupportedModel: The graph does not state it.
    """
    dtype = value.dtype
    if dtype is None and value.const_value is not None:
        dtype = value.const_value.dtype
    if dtype is None:
        raise UnsupportedModel(
            f"Expected an element type for value '{value.name}', found none; run shape inference first."
        )
    return dtype


def broadcast(a: Dims, b: Dims) -> Dims:
    """The shape of an elementwise operation over shapes `a` and `b` (ONNX broadcasting).

    >>> broadcast((4, 1, "r_0"), (3, 1))
    (4, 3, 'r_0')
    """
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    for i, j in zip(a, b, strict=True):
        if i != j and 1 not in {i, j}:
            raise UnsupportedModel(f"Expected shapes that broadcast, found {a} and {b}.")
    return tuple(j if i == 1 else i for i, j in zip(a, b, strict=True))


def size_of(dims: Sequence[Dim]) -> int:
    """The number of elements of a shape without rank symbols."""
    numbers = [dim for dim in dims if isinstance(dim, int)]
    if len(numbers) != len(dims):
        raise UnsupportedModel(f"Expected fixed dimensions, found {tuple(dims)}.")
    return math.prod(numbers)


def fixed(dim: Dim) -> int:
    """`dim` as a number; a rank cannot be sliced, padded or averaged over."""
    if isinstance(dim, str):
        raise UnsupportedModel(f"Expected a fixed dimension, found the adapter rank {dim}.")
    return dim
