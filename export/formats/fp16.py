"""Weights stored in 16 bits and cast before every use; all arithmetic stays in 32 bits.

Half-precision arithmetic is slower than single on the boards' processors, and half the bytes are kept all the same
as long as nobody folds the Cast at load: bundles run without constant folding of what is larger than they are.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.edit import Edit
from export.formats.format import Arrays, Parts, Tensors, typed
from export.formats.grid import Grid
from export.formats.layout import Layout
from quant.loss import BLOCK_ROWS
from quant.matrix import Float32

LARGEST = float(np.finfo(np.float16).max)


class Fp16:
    """Any weight within the range of 16 bits, half its bytes."""

    name = "fp16"
    instead = "fp32"

    def refuses(self, layout: Layout, grid: Grid) -> str:
        """Nothing by its shape."""
        return ""

    def stored_bytes(self, layout: Layout, grid: Grid) -> int:
        """Two bytes a number."""
        return 2 * layout.rows * layout.columns

    def store(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Tensors:
        """The nearest halves.

        Raises:
            ValueError: NaN, infinity, or a number that would become infinite.
        """
        h = np.empty(rows.shape, np.float16)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            largest = float(np.max(np.abs(block), initial=0.0))
            if not largest <= LARGEST:
                raise ValueError(f"expected numbers up to {LARGEST:g} for fp16, found {largest:g}")
            h[start : start + BLOCK_ROWS] = block
        return {"h": h}

    def restore(self, parts: Arrays, layout: Layout, grid: Grid) -> Float32:
        """The same numbers in 32 bits."""
        return parts["h"].astype(np.float32)

    def dequantize(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """One Cast."""
        weight = edit.op("Cast", parts("h"), attributes={"to": int(ir.DataType.FLOAT)})
        return typed(weight, ir.DataType.FLOAT, (layout.rows, layout.columns))

    def multiply(
        self, edit: Edit, x: ir.Value, parts: Parts, layout: Layout, grid: Grid, like: ir.Value
    ) -> ir.Value | None:
        """No node multiplies float32 by float16."""
        return None

    def look_up(self, edit: Edit, parts: Parts, ids: ir.Value, layout: Layout, grid: Grid, like: ir.Value) -> ir.Value:
        """Gather halves, then cast them."""
        halves = edit.op("Gather", parts("h"), ids, attributes={"axis": 0}, like=like)
        halves.type = ir.TensorType(ir.DataType.FLOAT16)
        return edit.op("Cast", halves, attributes={"to": int(ir.DataType.FLOAT)}, like=like)
