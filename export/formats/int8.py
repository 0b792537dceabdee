"""Weight-only int8: a scale per row, an explicit zero point, and a DequantizeLinear for every use.

    forward    x W         FusedMatMul(x, DequantizeLinear(q, s, z), transB=1)
    backward   g W^T       MatMul(g, DequantizeLinear(q, s, z))
    table      W[ids]      Cast(Gather(q, ids)) * Gather(s, ids)

q is stored by output channel because dequantizing along axis 1 of [in, out] is seven times slower. Every use
has its own DequantizeLinear, so that no float weight outlives the product that needs it. A plain MatMul over a
DequantizeLinear with axis 1 would be taken by onnxruntime's optimizer for an int8 product of rounded activations;
FusedMatMul is not.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.edit import Edit
from export.formats.format import Arrays, Parts, Tensors, typed
from export.formats.grid import Grid
from export.formats.layout import Layout
from quant.int8 import dequantize_rows, quantize_rows
from quant.loss import BLOCK_ROWS
from quant.matrix import Float32


class Int8:
    """Any weight, a quarter of its bytes."""

    name = "int8"
    instead = "fp32"

    def refuses(self, layout: Layout, grid: Grid) -> str:
        """Nothing is refused."""
        return ""

    def stored_bytes(self, layout: Layout, grid: Grid) -> int:
        """Integers, scales, and zero points where there are products."""
        return layout.rows * (layout.columns + 4 + (layout.kind != "table"))

    def store(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Tensors:
        """Integers, scales (a table's as a column, which multiplies rows without another node), zero points."""
        q, s = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):  # of what may lie in its file transposed: little at a time
            block = slice(start, start + BLOCK_ROWS)
            q[block], s[block] = quantize_rows(np.ascontiguousarray(rows[block]))
        z = np.zeros(len(rows), np.int8)
        # of a tied table the rows are the output channels, and the scales of both are the same bytes
        return {"q": q, "s": s[:, None], "s.flat": s, "z": z} if layout.kind == "table" else {"q": q, "s": s, "z": z}

    def restore(self, parts: Arrays, layout: Layout, grid: Grid) -> Float32:
        """s q."""
        return dequantize_rows(parts["q"], parts["s"].reshape(-1))

    def dequantize(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """One DequantizeLinear."""
        scales = parts("s.flat" if layout.kind == "table" else "s")
        weight = edit.op("DequantizeLinear", parts("q"), scales, parts("z"), attributes={"axis": 0})
        return typed(weight, ir.DataType.FLOAT, (layout.rows, layout.columns))

    def multiply(
        self, edit: Edit, x: ir.Value, parts: Parts, layout: Layout, grid: Grid, like: ir.Value
    ) -> ir.Value | None:
        """No node multiplies float activations by such integers."""
        return None

    def look_up(self, edit: Edit, parts: Parts, ids: ir.Value, layout: Layout, grid: Grid, like: ir.Value) -> ir.Value:
        """Gather integers and scales, then multiply."""
        integers = edit.op("Gather", parts("q"), ids, attributes={"axis": 0}, like=like)
        integers.type = ir.TensorType(ir.DataType.INT8)
        scales = edit.op("Gather", parts("s"), ids, attributes={"axis": 0}, like=like)
        if like.shape is not None:
            scales.shape = ir.Shape([*like.shape[:-1], 1])
        floats = edit.op("Cast", integers, attributes={"to": int(ir.DataType.FLOAT)}, like=like)
        return edit.op("Mul", floats, scales, like=like)
