"""Small graphs with one quantized weight in each of the formats, drawn from a seed and written as exports are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.write import write_graphs
from quant.blocks import linear_zero_points, pack_blocks, quantize_blocks
from quant.bnb import quantize_codes
from quant.codes import QUANT_TYPES, Kind
from quant.hqq import quantize_hqq
from quant.int8 import quantize_rows

Array = npt.NDArray[Any]
F, I64 = ir.DataType.FLOAT, ir.DataType.INT64
ROWS, OUT, IN = 5, 24, 160


class Made:
    """A graph that grows: inputs with what is fed, initializers, nodes."""

    def __init__(self, seed: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": 21, "com.microsoft": 1}, name="made")
        self.feeds: dict[str, Array] = {}

    def fed(self, name: str, array: Array) -> ir.Value:
        value = ir.val(name, ir.DataType.from_numpy(array.dtype), list(array.shape))
        self.graph.inputs.append(value)
        self.feeds[name] = array
        return value

    def held(self, name: str, array: Array | ir.TensorProtocol) -> ir.Value:
        tensor = ir.tensor(array, name=name) if isinstance(array, np.ndarray) else array
        value = ir.val(name, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def op(
        self, op_type: str, *inputs: ir.Value | None, domain: str = "", typed: ir.DataType = F, **attributes: Any
    ) -> ir.Value:
        output = ir.val(f"{op_type}.{len(self.graph)}", typed)
        self.graph.append(ir.node(op_type, inputs, attributes, domain=domain, outputs=[output], name=f"/{output.name}"))
        return output

    def x(self, *shape: int) -> ir.Value:
        return self.fed("x", self.rng.standard_normal(shape or (ROWS, IN)).astype(np.float32))

    def weight(self, rows: int = OUT, columns: int = IN) -> npt.NDArray[np.float32]:
        drawn = self.rng.standard_normal((rows, columns)) * 10.0 ** self.rng.uniform(-1, 1, (rows, 1))
        return drawn.astype(np.float32)

    def indices(self, below: int) -> ir.Value:
        return self.fed("ids", self.rng.integers(0, below, (2, 3)))


def written(made: Made, folder: Path, *outputs: ir.Value, name: str = "graph") -> Path:
    """The graph in a file of its own, its weights beside it."""
    made.graph.outputs.extend(outputs)
    write_graphs({name: ir.Model(made.graph, ir_version=10)}, folder, f"{name}.weights.bin")
    return folder / f"{name}.onnx"


def nbits(bits: int, zeros: str, level: int, block: int = 32) -> Callable[[Made], ir.Value]:
    """x W by MatMulNBits."""

    def make(made: Made) -> ir.Value:
        w = made.weight()
        blocks = (
            quantize_hqq(w, bits, block, "float") if zeros == "float" else quantize_blocks(w, bits, block, not zeros)
        )
        packed = pack_blocks(blocks)
        parts = [made.held("w.q", packed.values), made.held("w.s", packed.scales)]
        parts += [] if packed.zero_points is None else [made.held("w.z", packed.zero_points)]
        given: dict[str, Any] = {"K": IN, "N": OUT, "bits": bits, "block_size": block, "accuracy_level": level}
        return made.op("MatMulNBits", made.x(), *parts, domain="com.microsoft", **given)

    return make


def bnb4(kind: Kind, block: int = 64) -> Callable[[Made], ir.Value]:
    """x W by MatMulBnb4; blocks run on from row to row."""

    def make(made: Made) -> ir.Value:
        codes = quantize_codes(made.weight(), kind, block)
        given: dict[str, Any] = {"K": IN, "N": OUT, "block_size": block, "quant_type": QUANT_TYPES[kind]}
        parts = made.held("w.q", codes.values), made.held("w.s", codes.scales)
        return made.op("MatMulBnb4", made.x(), *parts, domain="com.microsoft", **given)

    return make


def rows(bits: int, zeros: bool, typed: bool = False, columns: int = 128) -> Callable[[Made], ir.Value]:
    """Rows of a table by GatherBlockQuantized; `typed` stores uint4, else bytes."""

    def make(made: Made) -> ir.Value:
        blocks = quantize_blocks(made.weight(40, columns), bits, 32, not zeros)
        packed = pack_blocks(blocks)
        data: Any = packed.values.reshape(40, -1)
        z: Any = packed.zero_points
        if typed:
            data = ir.PackedTensor(data.reshape(-1), ir.DataType.UINT4, shape=ir.Shape([40, columns]), name="w.q")
            flat = linear_zero_points(blocks)
            z = ir.PackedTensor(flat, ir.DataType.UINT4, shape=ir.Shape(blocks.scale.shape), name="w.z")
        parts = [made.held("w.q", data), made.indices(40), made.held("w.s", packed.scales)]
        parts += [made.held("w.z", z)] if z is not None else []
        given: dict[str, Any] = {"bits": bits, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
        return made.op("GatherBlockQuantized", *parts, domain="com.microsoft", **given)

    return make


def linear(how: str, axis: int, reader: str) -> Callable[[Made], ir.Value]:
    """A stored weight by DequantizeLinear, and what reads it."""

    def make(made: Made) -> ir.Value:
        shape = {"MatMul": (IN, OUT), "Conv": (8, 6, 3, 3)}.get(reader, (OUT, IN))
        q, s, z, block = _drawn(made.rng, how, axis, shape)
        given: dict[str, Any] = {"axis": axis, **({"block_size": block} if block else {})}
        w = made.op("DequantizeLinear", made.held("w.q", q), made.held("w.s", s), made.held("w.z", z), **given)
        return read(made, w, reader)

    return make


def _drawn(
    rng: np.random.Generator, how: str, axis: int, shape: tuple[int, ...]
) -> tuple[ir.TensorProtocol, Array, ir.TensorProtocol, int]:
    """Integers, scales, zero points and block of DequantizeLinear."""
    dtype = ir.DataType[how.split(maxsplit=1)[0].upper()]
    low, high = (0, 2**dtype.bitwidth - 1) if dtype.name.startswith("U") else (-(2 ** (dtype.bitwidth - 1)), 7)
    block = int(how.split()[2]) if "block" in how else 0
    parts = list(shape)
    if block:
        parts[axis] //= block
    held = parts if block else [] if "tensor" in how else [shape[axis]]

    def integers(size: list[int] | tuple[int, ...]) -> ir.TensorProtocol:
        array = rng.integers(low, high + 1, size).astype(dtype.numpy())
        return ir.tensor(np.asarray(array), dtype=dtype)

    return integers(shape), rng.uniform(0.01, 0.1, held).astype(np.float32), integers(held), block


def half(reader: str) -> Callable[[Made], ir.Value]:
    """A weight that is stored in float16."""

    def make(made: Made) -> ir.Value:
        shape = (IN, OUT) if reader == "MatMul" else (OUT, IN)
        stored = made.held("w", made.weight(*shape).astype(np.float16))
        if reader == "rows":
            found = made.op("Gather", stored, made.indices(OUT), axis=0, typed=ir.DataType.FLOAT16)
            return made.op("Cast", found, to=int(F))
        return read(made, made.op("Cast", stored, to=int(F)), reader)

    return make


def looked_up(made: Made) -> ir.Value:
    """Rows of int8 with a scale each."""
    q, s = quantize_rows(made.weight(40, 16))
    ids = made.indices(40)
    integers = made.op("Gather", made.held("w.q", q), ids, axis=0, typed=ir.DataType.INT8)
    scales = made.op("Gather", made.held("w.s", s[:, None]), ids, axis=0)
    return made.op("Mul", made.op("Cast", integers, to=int(F)), scales)


def read(made: Made, w: ir.Value, reader: str) -> ir.Value:
    """What a weight is for."""
    if reader == "Gather":
        return made.op("Gather", w, made.indices(OUT), axis=0)
    if reader == "Conv":
        bias = made.held("b", made.rng.standard_normal(8).astype(np.float32))
        given: dict[str, Any] = {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
        return made.op("Conv", made.x(2, 12, 9, 11), w, bias, **given)
    if reader == "Transpose":
        return made.op("Transpose", w, perm=[1, 0])
    if reader == "Gemm":
        return made.op("Gemm", made.x(), w, made.held("b", made.weight(1, OUT)[0]), transB=1, alpha=0.5, beta=2.0)
    if reader == "FusedMatMul":
        return made.op("FusedMatMul", made.x(), w, domain="com.microsoft", transB=1, alpha=0.25)
    return made.op("MatMul", made.x(), w)


def every_role(made: Made) -> list[ir.Value]:
    """Float weights in every role that a format can take: what an export rewrites."""
    x = made.x(2, ROWS, 64)
    picture = made.fed("picture", made.rng.standard_normal((2, 8, 9, 9)).astype(np.float32))
    filters = made.rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
    batch = made.rng.standard_normal((2, 64, 32)).astype(np.float32)
    return [
        made.op("Gather", made.held("table", made.weight(40, 64)), made.indices(40), axis=0),
        made.op("MatMul", x, made.held("matrix", made.weight(64, 48))),
        made.op("FusedMatMul", x, made.held("turned", made.weight(48, 64)), domain="com.microsoft", transB=1),
        made.op("MatMul", x, made.held("batch", batch)),
        made.op("Conv", picture, made.held("filters", filters), pads=[1, 1, 1, 1]),
    ]


FORMS: dict[str, Callable[[Made], ir.Value]] = {
    **{
        f"MatMulNBits of {bits} bits, {zeros or 'no'} zero points, level {level}": nbits(bits, zeros, level)
        for bits, zeros in ((4, ""), (4, "whole"), (4, "float"), (8, ""), (8, "whole"))
        for level in (0, 4)
    },
    "MatMulNBits in blocks of 16": nbits(4, "whole", 0, 16),
    **{f"MatMulBnb4 of {kind}": bnb4(kind) for kind in QUANT_TYPES},
    "rows of 4 bits in bytes": rows(4, zeros=False),
    "rows of 4 bits in bytes with zero points": rows(4, zeros=True),
    "rows of 8 bits with zero points": rows(8, zeros=True),
    "rows of uint4 with zero points": rows(4, zeros=True, typed=True),
    "rows of int8 with scales": looked_up,
    "float16 in a product": half("MatMul"),
    "float16 in another product": half("FusedMatMul"),
    "rows of float16": half("rows"),
    "int8 per tensor in Gemm": linear("int8 tensor", 0, "Gemm"),
    "int8 per channel in FusedMatMul": linear("int8 channel", 0, "FusedMatMul"),
    "int8 per channel of axis 1 in MatMul": linear("int8 channel", 1, "MatMul"),
    "int8 per channel in a look-up": linear("int8 channel", 0, "Gather"),
    "int8 per channel in Conv": linear("int8 channel", 0, "Conv"),
    "uint4 in blocks of axis 1 in FusedMatMul": linear("uint4 block 32", 1, "FusedMatMul"),
    "uint4 in blocks of axis 0 in MatMul": linear("uint4 block 32", 0, "MatMul"),
    "int4 in blocks of axis 1 in Gemm": linear("int4 block 16", 1, "Gemm"),
    "int8 in blocks of axis 1 in Transpose": linear("int8 block 32", 1, "Transpose"),
}
