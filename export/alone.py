"""Graphs of one node each, which travel with the agent: `python -m export.alone [FOLDER]` writes edge/probe/graphs.

A board runs them to know what nodes take there (docs/probe.md). Sizes are symbols, and everything a node reads is fed,
for bundles run unpacked; where kernels pack their weights, or a size is an attribute, there is a file for each size.
Weights are no part of a file: all of them are the beginning of one file of equal bytes that the board writes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from wire.files import write_atomic

FOLDER = Path(__file__).resolve().parent.parent / "edge" / "probe" / "graphs"
FILL = "fill.bin"  # where a board has the bytes of all weights
OPSETS = (("", 21), ("com.microsoft", 1))  # opset 21 is what the oldest runtime of a board knows
MICROSOFT = "com.microsoft"
SIDES = (64, 256, 1024)  # of square weights that are packed
CHANNELS = (8, 64, 128)  # of convolutions whose weights are packed
DEPTHWISE = (16, 128)
BLOCK, CODES = 32, 64
IDLE = 64  # nodes in a row that do next to nothing
F, I8, U8, I32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
BITS: dict[int, int] = {F: 32, I32: 32, I8: 8, U8: 8, TensorProto.UINT4: 4}
Shape = Sequence[int | str]


@dataclass(frozen=True)
class One:
    """A node: what is fed and what is stored with it, in the order in which it reads them."""

    operator: str
    inputs: Mapping[str, tuple[int, Shape]]
    output: tuple[int, Shape]
    stored: Mapping[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 1

    def model(self) -> ModelProto:
        """As ONNX."""
        names = list(self.reads or (*self.inputs, *self.stored))
        nodes = [
            helper.make_node(
                self.operator,
                names if at == 0 else [f"y{at}"],
                ["y" if at == self.repeat - 1 else f"y{at + 1}"],
                domain=self.domain,
                **self.attributes,
            )
            for at in range(self.repeat)
        ]
        graph = helper.make_graph(
            nodes,
            "alone",
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in self.inputs.items()],
            [helper.make_tensor_value_info("y", self.output[0], list(self.output[1]))],
            [_stored(name, kind, shape) for name, (kind, shape) in self.stored.items()],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _stored(name: str, kind: int, shape: tuple[int, ...]) -> TensorProto:
    """A tensor whose bytes are the first ones of the file of all weights."""
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    size = -(-math.prod(shape) * BITS[kind] // 8)
    for key, value in (("location", FILL), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graphs() -> Iterator[tuple[str, One]]:
    """File names without their ending, OPERATOR.FORMAT or OPERATOR.FORMAT.SIZE, and nodes."""
    rows: Shape = ("rows", "in")
    q: dict[str, tuple[int, Shape]]
    made: tuple[int, Shape] = (F, ("rows", "out"))
    flat: Shape = ("elements",)
    yield "MatMul.fp32", One("MatMul", {"x": (F, rows), "w": (F, ("in", "out"))}, made)
    turned = {"x": (F, rows), "w": (F, ("out", "in"))}
    yield "FusedMatMul.fp32", One("FusedMatMul", turned, made, domain=MICROSOFT, attributes={"transB": 1})
    yield from _packed(made)
    yield from _convolutions()
    q = {"q": (I8, ("rows", "in")), "s": (F, ("rows",)), "z": (I8, ("rows",))}
    yield "DequantizeLinear.int8", One("DequantizeLinear", q, (F, rows), attributes={"axis": 0})
    q = {"q": (U8, rows), "s": (F, ("rows", "blocks")), "z": (U8, ("rows", "blocks"))}
    attributes = {"axis": 1, "block_size": BLOCK}
    yield "DequantizeLinear.blocks", One("DequantizeLinear", q, (F, rows), attributes=attributes)
    rounded = {"x": (F, flat), "s": (F, ()), "z": (U8, ())}
    yield "QuantizeLinear.int8", One("QuantizeLinear", rounded, (U8, flat))
    yield "Cast.fp16", One("Cast", {"x": (TensorProto.FLOAT16, flat)}, (F, flat), attributes={"to": F})
    yield "Add.fp32", One("Add", {"x": (F, flat), "w": (F, flat)}, (F, flat))
    yield "Erf.fp32", One("Erf", {"x": (F, flat)}, (F, flat))
    yield "Softmax.fp32", One("Softmax", {"x": (F, rows)}, (F, rows))
    scaled: dict[str, tuple[int, Shape]] = {"x": (F, rows), "s": (F, ("in",)), "b": (F, ("in",))}
    yield "LayerNormalization.fp32", One("LayerNormalization", scaled, (F, rows))
    yield "ReduceMean.fp32", One("ReduceMean", {"x": (F, rows)}, (F, ("rows",)), attributes={"keepdims": 0})
    yield "Transpose.fp32", One("Transpose", {"x": (F, rows)}, (F, ("in", "rows")), attributes={"perm": [1, 0]})
    looked_up = {"w": (F, ("rows", "in")), "ids": (TensorProto.INT64, ("rows",))}
    yield "Gather.fp32", One("Gather", looked_up, (F, rows))
    for count in (1, IDLE):
        yield f"run.{count}", One("Neg", {"x": (F, (1,))}, (F, (1,)), repeat=count)


def _packed(made: tuple[int, Shape]) -> Iterator[tuple[str, One]]:
    """Products of integers."""
    for side in SIDES:
        fed: dict[str, tuple[int, Shape]] = {"x": (F, ("rows", side))}
        for bits, name in ((4, "int4"), (8, "int8")):
            blocks = side // BLOCK
            stored = {"q": (U8, (side, blocks, BLOCK * bits // 8)), "s": (F, (side * blocks,))}
            attributes = {"K": side, "N": side, "bits": bits, "block_size": BLOCK}
            one = One("MatMulNBits", fed, (F, ("rows", side)), stored, domain=MICROSOFT, attributes=attributes)
            yield f"MatMulNBits.{name}.{side}", one
        attributes = {"K": side, "N": side, "block_size": CODES, "quant_type": 1}
        codes = {"c": (U8, (side * side // 2,)), "s": (F, (side * side // CODES,))}
        one = One("MatMulBnb4", fed, (F, ("rows", side)), codes, domain=MICROSOFT, attributes=attributes)
        yield f"MatMulBnb4.nf4.{side}", one
        integers = {"x": (U8, ("rows", side)), "sx": (F, ()), "zx": (U8, ())}
        weights = {"w": (I8, (side, side)), "sw": (F, (side,)), "zw": (I8, (side,))}
        order = ("x", "w", "sx", "sw", "zx", "zw")
        yield (
            f"MatMulInteger.int8.{side}",
            One("MatMulIntegerToFloat", integers, (F, ("rows", side)), weights, order, domain=MICROSOFT),
        )


def _convolutions() -> Iterator[tuple[str, One]]:
    """Of 3 x 3 places, with as many as before: in float32 with any channels, and those whose weights are packed."""
    around = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    image, after = (1, "in", "side", "side"), (1, "out", "side", "side")
    fed: dict[str, tuple[int, Shape]] = {"x": (F, image), "w": (F, ("out", "in", 3, 3))}
    yield "Conv.fp32", One("Conv", fed, (F, after), attributes=around)
    for channels in DEPTHWISE:
        shape = (1, channels, "side", "side")
        fed = {"x": (F, shape), "w": (F, (channels, 1, 3, 3))}
        yield f"DepthwiseConv.fp32.{channels}", One("Conv", fed, (F, shape), attributes={**around, "group": channels})
    for channels in CHANNELS:
        shape = (1, channels, "side", "side")
        fed = {"x": (U8, shape), "sx": (F, ()), "zx": (U8, ()), "sy": (F, ()), "zy": (U8, ())}
        stored = {"w": (I8, (channels, channels, 3, 3)), "sw": (F, (channels,)), "zw": (I8, (channels,))}
        order = ("x", "sx", "zx", "w", "sw", "zw", "sy", "zy")
        yield f"Conv.int8.{channels}", One("QLinearConv", fed, (U8, shape), stored, order, attributes=around)


def write(folder: Path) -> list[Path]:
    """All files; what else is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, one in graphs():
        paths.append(folder / f"{name}.onnx")
        write_atomic(paths[-1], one.model().SerializeToString(deterministic=True))
    return paths


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1]) if sys.argv[1:] else FOLDER))} files written")
