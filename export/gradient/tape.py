"""A tape that appends typed and shaped operators to a graph, in execution order.

The runtime executes the file as it is written, so the order of the calls is the order of the run. Every
emitted value has a known type and shape; ranks of adapters stay symbolic and never enter a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.gradient.dims import Dims, broadcast, dims_of, dtype_of, fixed, size_of
from export.gradient.emitter import Emitter

MICROSOFT = "com.microsoft"

Operand = ir.Value | float


class Tape(Emitter):
    """The operators that gradient rules are written in; a number stands for a constant of fitting type."""

    # --- elementwise

    def unary(self, op_type: str, x: ir.Value) -> ir.Value:
        """An elementwise operator of one input."""
        return self.emit(op_type, [x], dims_of(x), dtype_of(x))

    def binary(self, op_type: str, a: Operand, b: Operand, dtype: ir.DataType | None = None) -> ir.Value:
        """A broadcasting operator of two inputs; a number takes the type of the other operand."""
        left, right = self._pair(a, b)
        dims = broadcast(dims_of(left), dims_of(right))
        return self.emit(op_type, [left, right], dims, dtype or dtype_of(left))

    def add(self, a: Operand, b: Operand) -> ir.Value:
        """Emit a + b."""
        return self.binary("Add", a, b)

    def sub(self, a: Operand, b: Operand) -> ir.Value:
        """Emit a - b."""
        return self.binary("Sub", a, b)

    def mul(self, a: Operand, b: Operand) -> ir.Value:
        """Emit a b."""
        return self.binary("Mul", a, b)

    def div(self, a: Operand, b: Operand) -> ir.Value:
        """Emit a / b."""
        return self.binary("Div", a, b)

    def neg(self, x: ir.Value) -> ir.Value:
        """Emit -x."""
        return self.unary("Neg", x)

    def where(self, condition: ir.Value, yes: Operand, no: Operand) -> ir.Value:
        """`yes` where `condition` holds, else `no`."""
        left, right = self._pair(yes, no)
        dims = broadcast(dims_of(condition), broadcast(dims_of(left), dims_of(right)))
        return self.emit("Where", [condition, left, right], dims, dtype_of(left))

    def _pair(self, a: Operand, b: Operand) -> tuple[ir.Value, ir.Value]:
        if isinstance(a, ir.Value):
            return a, b if isinstance(b, ir.Value) else self.scalar(b, dtype_of(a))
        if isinstance(b, ir.Value):
            return self.scalar(a, dtype_of(b)), b
        raise TypeError("expected at least one value of the graph, found two numbers")

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`x` with element type `dtype`."""
        if dtype_of(x) == dtype:
            return x
        return self.emit("Cast", [x], dims_of(x), dtype, {"to": int(dtype)})

    # --- products

    def matmul(
        self, a: ir.Value, b: ir.Value, *, trans_a: bool = False, trans_b: bool = False, alpha: float = 1.0
    ) -> ir.Value:
        """The product alpha op(a) op(b) over the last two axes, leading axes broadcast.

        A transposed operand is read in place by FusedMatMul: a Transpose of a constant would be folded
        into a second copy of the weight. A dequantized operand takes FusedMatMul too, because onnxruntime
        rewrites DequantizeLinear + MatMul to int8 activations.
        """
        rows, inner = _matrix(a, trans_a)
        other, columns = _matrix(b, trans_b)
        if inner != other:
            raise UnsupportedModel(f"Expected equal inner dimensions, found {inner} and {other}.")
        dims = (*broadcast(dims_of(a)[:-2], dims_of(b)[:-2]), rows, columns)
        producer = b.producer()
        dequantized = producer is not None and producer.op_type == "DequantizeLinear"
        if not (trans_a or trans_b or dequantized or alpha != 1.0):
            return self.emit("MatMul", [a, b], dims, dtype_of(a))
        flags = {"transA": int(trans_a), "transB": int(trans_b), "alpha": float(alpha)}
        return self.emit("FusedMatMul", [a, b], dims, dtype_of(a), flags, domain=MICROSOFT)

    # --- shapes

    def reshape(self, x: ir.Value, dims: Dims) -> ir.Value:
        """`x` as `dims`; at most one of them may be a rank, which is then inferred at run time."""
        if dims == dims_of(x):
            return x
        if sum(isinstance(dim, str) for dim in dims) > 1:
            raise UnsupportedModel(f"Expected at most one adapter rank in a reshape, found {dims}.")
        target = [-1 if isinstance(dim, str) else dim for dim in dims]
        # else 0 would mean the dimension that x has there
        flags = {"allowzero": 1} if 0 in target and -1 not in target else None
        return self.emit("Reshape", [x, self.ints(target)], dims, dtype_of(x), flags)

    def rows(self, x: ir.Value) -> ir.Value:
        """`x` as a matrix: all axes but the last in one."""
        *leading, width = dims_of(x)
        return self.reshape(x, (size_of(leading), width))

    def unsqueeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """`x` with ones at `axes` (non-negative, ascending, in the result)."""
        dims = list(dims_of(x))
        for axis in axes:
            dims.insert(axis, 1)
        return self.emit("Unsqueeze", [x, self.ints(axes)], tuple(dims), dtype_of(x))

    def squeeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """`x` without the ones at `axes` (non-negative)."""
        dims = tuple(dim for i, dim in enumerate(dims_of(x)) if i not in axes)
        return self.emit("Squeeze", [x, self.ints(axes)], dims, dtype_of(x))

    def transpose(self, x: ir.Value, perm: Sequence[int]) -> ir.Value:
        """`x` with its axes in the order `perm`."""
        dims = dims_of(x)
        return self.emit("Transpose", [x], tuple(dims[i] for i in perm), dtype_of(x), {"perm": list(perm)})

    def expand(self, x: ir.Value, like: ir.Value) -> ir.Value:
        """`x` broadcast to the shape of `like`."""
        if dims_of(x) == dims_of(like):
            return x
        return self.emit("Expand", [x, self.shape(like)], dims_of(like), dtype_of(x))

    def zeros(self, like: ir.Value) -> ir.Value:
        """Zeros of the shape and type of `like`, whatever its rank is at run time."""
        dtype = dtype_of(like)
        zero = ir.tensor(np.zeros(1, dtype.numpy()), dtype=dtype)
        return self.emit("ConstantOfShape", [self.shape(like)], dims_of(like), dtype, {"value": zero})

    def shape(self, like: ir.Value) -> ir.Value:
        """The shape of `like`: a constant unless it holds a rank."""
        dims = dims_of(like)
        if all(isinstance(dim, int) for dim in dims):
            return self.ints([fixed(dim) for dim in dims])
        return self.emit("Shape", [like], (len(dims),), ir.DataType.INT64)

    def pad(self, x: ir.Value, before: Sequence[int], after: Sequence[int]) -> ir.Value:
        """`x` with zeros before and after it, per axis."""
        if not any(before) and not any(after):
            return x
        dims = tuple(
            dim if lo == hi == 0 else fixed(dim) + lo + hi
            for dim, lo, hi in zip(dims_of(x), before, after, strict=True)
        )
        return self.emit("Pad", [x, self.ints([*before, *after])], dims, dtype_of(x))

    def slice(self, x: ir.Value, axis: int, begin: int, end: int) -> ir.Value:
        """`x[..., begin:end, ...]` at `axis`, bounds within the axis."""
        dims = list(dims_of(x))
        dims[axis] = end - begin
        bounds = [self.ints([begin]), self.ints([end]), self.ints([axis])]
        return self.emit("Slice", [x, *bounds], tuple(dims), dtype_of(x))

    def concat(self, parts: Sequence[ir.Value], axis: int) -> ir.Value:
        """`parts` one after the other along `axis`."""
        dims = list(dims_of(parts[0]))
        dims[axis] = sum(fixed(dims_of(part)[axis]) for part in parts)
        return self.emit("Concat", parts, tuple(dims), dtype_of(parts[0]), {"axis": axis})

    # --- reductions

    def reduce_sum(self, x: ir.Value, axes: Sequence[int], *, keepdims: bool = True) -> ir.Value:
        """The sum over `axes` (non-negative); `x` itself without axes."""
        if not axes:
            return x
        return self.emit(
            "ReduceSum", [x, self.ints(axes)], _reduced(x, axes, keepdims), dtype_of(x), {"keepdims": int(keepdims)}
        )

    def reduce_mean(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """The mean over `axes` (non-negative), kept as ones."""
        return self._reduce("ReduceMean", x, axes)

    def reduce_prod(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """The product over `axes` (non-negative), kept as ones."""
        return self._reduce("ReduceProd", x, axes)

    def _reduce(self, op_type: str, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        if not axes:
            return x
        dims, dtype = _reduced(x, axes, True), dtype_of(x)
        if self.opset < 18:
            return self.emit(op_type, [x], dims, dtype, {"axes": list(axes), "keepdims": 1})
        return self.emit(op_type, [x, self.ints(axes)], dims, dtype, {"keepdims": 1})

    def red(self, t: ir.Value, like: ir.Value) -> ir.Value:
        """`t` summed to the shape of `like`: the adjoint of broadcasting `like` to the shape of `t`.

        Sums over the leading axes that `like` lacks and over every axis where `like` is 1 and `t` is
        not. It is done where a product is formed: summing later an axis that is still 1 would lose a
        factor without an error. No target shape is needed, so a rank may be among the other axes.
        """
        source, target = dims_of(t), dims_of(like)
        lead = len(source) - len(target)
        leading = list(range(lead))
        ones = [lead + i for i, dim in enumerate(target) if dim == 1 and source[lead + i] != 1]
        if not ones:
            return self.reduce_sum(t, leading, keepdims=False)
        summed = self.reduce_sum(t, leading + ones)
        return self.squeeze(summed, leading) if leading else summed


def _reduced(x: ir.Value, axes: Sequence[int], keepdims: bool) -> Dims:
    dims = dims_of(x)
    if keepdims:
        return tuple(1 if i in axes else dim for i, dim in enumerate(dims))
    return tuple(dim for i, dim in enumerate(dims) if i not in axes)


def _matrix(x: ir.Value, trans: bool) -> Dims:
    rows, columns = dims_of(x)[-2:]
    return (columns, rows) if trans else (rows, columns)
