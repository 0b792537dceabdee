"""NF4 and FP4 (`quant.codes`): MatMulBnb4 where nothing goes back, else codes looked up in a table.

    forward    x W         MatMulBnb4(x, c, a)
    backward   g W^T       MatMul(g, Reshape(Gather(pairs, c) * a)),   pairs [256, 2]: the two numbers of a byte

MatMulBnb4 restores the whole weight at every run, and so do these nodes: both save storage, neither time. Its other
orientation (transB=0), which g W^T would need, is wrong on a processor. Nested scales are restored before use.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.edit import Edit
from export.formats.format import Arrays, Parts, Tensors, typed
from export.formats.grid import Grid
from export.formats.layout import MICROSOFT, Layout
from quant.codes import (
    QUANT_TYPES,
    SCALES_AT_ONCE,
    TABLES,
    Codes,
    Kind,
    Nested,
    dequantize_codes,
    dynamic_tree,
    restore_scales,
)
from quant.matrix import Float32


class FourBitCodes:
    """Matrices; blocks run on from row to row."""

    instead = "int8"

    def __init__(self, name: Kind) -> None:
        self.name: Kind = name

    def refuses(self, layout: Layout, grid: Grid) -> str:
        """All but matrices, and what is no whole number of blocks."""
        if layout.kind != "matrix":
            what = {"table": "table", "filter": "convolution", "batch": "batched product"}[layout.kind]
            return f"{self.name} has no {what}"
        if layout.rows * layout.columns % grid.code_block:
            size = layout.rows * layout.columns
            return f"its {size} numbers are no multiple of the block of {grid.code_block} that {self.name} has"
        return ""

    def stored_bytes(self, layout: Layout, grid: Grid) -> int:
        """Codes, and scales of 32 or about 8 bits."""
        count = layout.rows * layout.columns
        scales = count // grid.code_block
        if not grid.nested_scales:
            return count // 2 + 4 * scales
        groups = -(-scales // SCALES_AT_ONCE)
        return count // 2 + groups * (SCALES_AT_ONCE + 4) + 4

    def store(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Tensors:
        """Codes and scales by bitsandbytes."""
        from quant.bnb import nest_scales, quantize_codes  # seconds to import, and torch

        codes = quantize_codes(np.ascontiguousarray(rows, np.float32), self.name, grid.code_block)
        if not grid.nested_scales:
            return {"c": codes.values, "a": codes.scales}
        nested = nest_scales(codes.scales)
        padded = np.zeros((len(nested.steps), SCALES_AT_ONCE), np.uint8)
        padded.reshape(-1)[: len(nested.values)] = nested.values
        return {"c": codes.values, "a.codes": padded, "a.steps": nested.steps[:, None], "a.offset": nested.offset}

    def restore(self, parts: Arrays, layout: Layout, grid: Grid) -> Float32:
        """table[c] a."""
        count = layout.rows * layout.columns // grid.code_block
        if "a" in parts:
            scales = parts["a"]
        else:
            codes = parts["a.codes"].reshape(-1)[:count]
            scales = restore_scales(Nested(codes, parts["a.steps"].reshape(-1), parts["a.offset"]))
        return dequantize_codes(Codes(parts["c"], scales, (layout.rows, layout.columns), self.name, grid.code_block))

    def dequantize(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """Two numbers for each byte, times their block's scale."""
        block, count = grid.code_block, layout.rows * layout.columns
        table, byte = TABLES[self.name], np.arange(256)
        pairs = edit.constant("pairs", np.stack([table[byte >> 4], table[byte & 15]], axis=1))
        index = edit.op("Cast", parts("c"), attributes={"to": int(ir.DataType.INT32)})
        typed(index, ir.DataType.INT32, (count // 2,))
        both = typed(edit.op("Gather", pairs, index, attributes={"axis": 0}), ir.DataType.FLOAT, (count // 2, 2))
        blocks = _reshaped(edit, both, "blocks", (count // block, block))
        scales = _reshaped(edit, self._scales(edit, parts, layout, grid), "column", (count // block, 1))
        weight = typed(edit.op("Mul", blocks, scales), ir.DataType.FLOAT, (count // block, block))
        return _reshaped(edit, weight, "shape", (layout.rows, layout.columns))

    def _scales(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """In 32 bits, [blocks]."""
        if "a" in parts:
            return parts("a")
        count = layout.rows * layout.columns // grid.code_block
        groups = -(-count // SCALES_AT_ONCE)
        shape = (groups, SCALES_AT_ONCE)
        index = edit.op("Cast", parts("a.codes"), attributes={"to": int(ir.DataType.INT32)})
        typed(index, ir.DataType.INT32, shape)
        tree = edit.constant("tree", dynamic_tree())
        numbers = typed(edit.op("Gather", tree, index, attributes={"axis": 0}), ir.DataType.FLOAT, shape)
        scaled = typed(edit.op("Mul", numbers, parts("a.steps")), ir.DataType.FLOAT, shape)
        scales = typed(edit.op("Add", scaled, parts("a.offset")), ir.DataType.FLOAT, shape)
        flat = _reshaped(edit, scales, "flat", (groups * SCALES_AT_ONCE,))
        first, last = edit.constant("first", [0], np.int64), edit.constant("last", [count], np.int64)
        return typed(edit.op("Slice", flat, first, last), ir.DataType.FLOAT, (count,))

    def multiply(
        self, edit: Edit, x: ir.Value, parts: Parts, layout: Layout, grid: Grid, like: ir.Value
    ) -> ir.Value | None:
        """One MatMulBnb4."""
        attributes = {
            "K": layout.columns,
            "N": layout.rows,
            "block_size": grid.code_block,
            "quant_type": QUANT_TYPES[self.name],
        }
        scales = self._scales(edit, parts, layout, grid)
        return edit.op("MatMulBnb4", x, parts("c"), scales, attributes=attributes, domain=MICROSOFT, like=like)

    def look_up(self, edit: Edit, parts: Parts, ids: ir.Value, layout: Layout, grid: Grid, like: ir.Value) -> ir.Value:
        """Tables are refused."""
        raise AssertionError("a table was given to a format that refuses tables")


def _reshaped(edit: Edit, value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    """The same numbers in another shape."""
    return typed(edit.op("Reshape", value, edit.constant(name, shape, np.int64)), ir.DataType.FLOAT, shape)
