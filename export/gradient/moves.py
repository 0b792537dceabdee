"""Linear maps that several rules share: a matrix along one axis, zeros, rows added up where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.gradient.dims import Dims, dims_of, dtype_of, fixed, size_of
from export.gradient.tape import Tape

Array = npt.NDArray[Any]


def along(t: Tape, x: ir.Value, axis: int, matrix: Array) -> ir.Value:
    """`sum_j matrix[i, j] x[..., j, ...]` with j and i at `axis`; the matrix [in, out] becomes a constant."""
    dims = dims_of(x)
    lead, rest = dims[:axis], dims[axis + 1 :]
    if not rest:
        rows = x if lead else t.unsqueeze(x, [0])
        made = t.matmul(rows, t.constant(matrix.T, dtype_of(x)))
        return made if lead else t.squeeze(made, [0])
    flat = t.reshape(x, (*lead, dims[axis], size_of(rest))) if len(rest) > 1 else x
    return t.reshape(t.matmul(t.constant(matrix, dtype_of(x)), flat), (*lead, matrix.shape[0], *rest))


def zeros(t: Tape, dims: Dims, dtype: ir.DataType) -> ir.Value:
    """Zeros of a fixed shape, made at run time and not stored."""
    zero = ir.tensor(np.zeros(1, dtype.numpy()), dtype=dtype)
    shape = t.ints([fixed(dim) for dim in dims])
    return t.emit("ConstantOfShape", [shape], dims, dtype, {"value": zero})


def reversed_along(t: Tape, x: ir.Value, axis: int) -> ir.Value:
    """`x` from its last to its first along `axis`."""
    bounds = [t.ints([-1]), t.ints([np.iinfo(np.int64).min]), t.ints([axis]), t.ints([-1])]
    return t.emit("Slice", [x, *bounds], dims_of(x), dtype_of(x))


def scatter_elements(
    t: Tape, data: ir.Value, index: ir.Value, updates: ir.Value, axis: int, reduction: str = "none"
) -> ir.Value:
    """`data` with `updates` put, or added, at `index` along `axis`."""
    attributes: dict[str, int | str] = {"axis": axis, "reduction": reduction}
    return t.emit("ScatterElements", [data, index, updates], dims_of(data), dtype_of(data), attributes)


def summed_rows(t: Tape, rows: ir.Value, index: ir.Value, count: int) -> ir.Value:
    """`y[index[l]] += rows[l]`: [count, R] from rows [L, R] and index [L].

    ScatterND would need no expanded index, but onnxruntime adds in it from several threads at once, so that
    rows that meet lose one another.
    """
    length, width = dims_of(rows)
    column = t.reshape(index, (length, 1))
    wide = t.emit("Expand", [column, t.ints([fixed(length), fixed(width)])], dims_of(rows), dtype_of(index))
    return scatter_elements(t, zeros(t, (count, width), dtype_of(rows)), wide, rows, 0, "add")
