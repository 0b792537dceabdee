"""Integers of 4 or 8 bits in blocks (`quant.blocks`): MatMulNBits where nothing goes back, else DequantizeLinear.

    forward    x W         MatMulNBits(x, q, s[, z]), float activations (accuracy level 0)
    backward   g W^T       MatMul(g, DequantizeLinear(q, s, z, block_size))
    table      W[ids]      GatherBlockQuantized(q, ids, s, z)

The bytes of the integers are the same for all three, and a file holds them once. MatMulNBits wants to be packed when
a session is made: unpacked, it restores the whole weight at every run.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.edit import Edit
from export.formats.format import Arrays, Parts, Tensors, typed
from export.formats.grid import Grid
from export.formats.layout import MICROSOFT, Layout
from quant.blocks import Blocks, dequantize_blocks, linear_zero_points, pack_blocks, quantize_blocks
from quant.gptq import hessian, quantize_gptq
from quant.hqq import quantize_hqq
from quant.matrix import Float32
from quant.pack import unpack


class IntegerBlocks:
    """Matrices and tables whose columns are whole blocks; `bits` 4 or 8."""

    instead = "int8"

    def __init__(self, name: str, bits: Literal[4, 8]) -> None:
        self.name, self.bits = name, bits

    def refuses(self, layout: Layout, grid: Grid) -> str:
        """Filters and batches, and what is no whole number of blocks."""
        if layout.kind not in {"matrix", "table"}:
            return f"{self.name} has no {'convolution' if layout.kind == 'filter' else 'batched product'}"
        if self.bits == 8 and layout.kind == "table":
            return f"{self.name} has no table"
        block = grid.integer_block
        if layout.columns % block:
            return f"its rows of {layout.columns} are no multiple of the block of {block} that {self.name} has"
        return ""

    def stored_bytes(self, layout: Layout, grid: Grid) -> int:
        """Integers, scales, and zero points where they are asked for."""
        count = layout.columns // grid.integer_block
        zeros = -(-count * self.bits // 8) if grid.zero_points else 0
        return layout.rows * (layout.columns * self.bits // 8 + 4 * count + zeros)

    def store(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Tensors:
        """Packed integers as both kinds of nodes read them, scales, zero points of either kind."""
        blocks = self._quantized(np.ascontiguousarray(rows, np.float32), layout, grid, inputs)
        packed = pack_blocks(blocks)
        parts: dict[str, NDArray[Any] | ir.TensorProtocol] = {"q": packed.values, "s": packed.scales}
        if packed.zero_points is not None:
            parts["z"] = packed.zero_points.reshape(-1)
        parts["q.linear"] = self._tensor(packed.values, blocks.q.shape)
        parts["z.linear"] = self._tensor(linear_zero_points(blocks), blocks.scale.shape)
        return parts

    def _quantized(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Blocks:
        block, symmetric = grid.integer_block, not grid.zero_points
        if grid.scales == "hqq":
            return quantize_hqq(rows, self.bits, block, "none" if symmetric else "whole")
        if grid.scales == "gptq" and inputs is not None and np.any(inputs):
            return quantize_gptq(rows, hessian(inputs, layout.columns), self.bits, block, symmetric)
        return quantize_blocks(rows, self.bits, block, symmetric)

    def _tensor(self, packed: NDArray[np.uint8], shape: tuple[int, ...]) -> ir.TensorProtocol:
        if self.bits == 8:
            return ir.tensor(packed.reshape(shape))
        return ir.PackedTensor(packed.reshape(-1), ir.DataType.UINT4, shape=ir.Shape(shape))

    def restore(self, parts: Arrays, layout: Layout, grid: Grid) -> Float32:
        """s (q - z)."""
        block, shape = grid.integer_block, (layout.rows, layout.columns)
        count = layout.columns // block
        q = self._numbers(parts, "q", layout.rows, layout.columns)
        symmetric = "z" not in parts and "z.linear" not in parts
        if symmetric:
            zero = np.full((layout.rows, count), 2 ** (self.bits - 1), np.uint8)
        else:
            zero = self._numbers(parts, "z", layout.rows, count)
        return dequantize_blocks(
            Blocks(q.reshape(shape), parts["s"].reshape(-1, count), zero, self.bits, block, symmetric)
        )

    def _numbers(self, parts: Arrays, end: str, rows: int, columns: int) -> NDArray[np.uint8]:
        """Integers one to a byte, from either kind of tensor."""
        if f"{end}.linear" in parts:
            return parts[f"{end}.linear"].astype(np.uint8).reshape(rows, columns)
        return unpack(parts[end].reshape(rows, -1), self.bits, columns)

    def dequantize(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """One DequantizeLinear by blocks, with explicit zero points."""
        attributes = {"axis": 1, "block_size": grid.integer_block}
        inputs = (parts("q.linear"), parts("s"), parts("z.linear"))
        weight = edit.op("DequantizeLinear", *inputs, attributes=attributes)
        return typed(weight, ir.DataType.FLOAT, (layout.rows, layout.columns))

    def multiply(
        self, edit: Edit, x: ir.Value, parts: Parts, layout: Layout, grid: Grid, like: ir.Value
    ) -> ir.Value | None:
        """One MatMulNBits."""
        attributes = {"K": layout.columns, "N": layout.rows, "bits": self.bits, "block_size": grid.integer_block}
        inputs = [x, parts("q"), parts("s"), *([parts("z")] if "z" in parts else [])]
        return edit.op("MatMulNBits", *inputs, attributes=attributes, domain=MICROSOFT, like=like)

    def look_up(self, edit: Edit, parts: Parts, ids: ir.Value, layout: Layout, grid: Grid, like: ir.Value) -> ir.Value:
        """One GatherBlockQuantized over uint4, with explicit zero points.

        It has no `bits`, which uint4 says by itself: onnxruntime 1.22 does not load a node with that attribute.
        """
        attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": grid.integer_block}
        inputs = (parts("q.linear"), ids, parts("s"), parts("z.linear"))
        return edit.op("GatherBlockQuantized", *inputs, attributes=attributes, domain=MICROSOFT, like=like)
