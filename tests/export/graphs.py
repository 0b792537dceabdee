"""Small graphs in the form that a frozen model has, drawn from a seed, for tests that need no exporter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

BATCH, WIDTH, CLASSES = 4, 6, 3


class Builder:
    """A graph that grows at its end, with the shape of every value stated."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": 21, "com.microsoft": 1}, name="made")

    def input(self, name: str, shape: list[int | str], default: Any = None) -> ir.Value:
        value = ir.val(name, ir.DataType.FLOAT, shape)
        self.graph.inputs.append(value)
        if default is not None:
            value.const_value = ir.tensor(np.asarray(default, np.float32), name=name)
            self.graph.register_initializer(value)
        return value

    def weight(self, name: str, *shape: int) -> ir.Value:
        drawn = (self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        value = ir.val(name, const_value=ir.tensor(drawn, name=name))
        self.graph.register_initializer(value)
        return value

    def op(self, op_type: str, *inputs: ir.Value, shape: list[int | str], name: str, **attributes: Any) -> ir.Value:
        output = ir.val(name, ir.DataType.FLOAT, shape)
        self.graph.append(ir.node(op_type, inputs, attributes, outputs=[output], name=f"/{name}/{op_type}"))
        return output

    def model(self, **outputs: ir.Value) -> ir.Model:
        for name, value in outputs.items():
            value.name = name
            self.graph.outputs.append(value)
        return ir.Model(self.graph, ir_version=10)


def residual_mlp(blocks: int = 3, *, slots: bool = True, seed: int = 5, width: int = WIDTH) -> ir.Model:
    """x [4, width] through residual blocks that all read a shift computed once: h + Tanh(h W + slot) + shift.

    The shift (made from the input `bias` at the beginning) crosses every cut, and so does h.
    """
    b = Builder(seed)
    x, bias = b.input("x", [BATCH, width]), b.input("bias", [1, width])
    sites = [_slot(b, f"layer.{i}", f"r_{i}", width) for i in range(blocks)] if slots else []
    head = b.input("head.weight", [width, CLASSES], np.zeros((width, CLASSES)))
    offset = b.input("head.bias", [CLASSES], np.zeros(CLASSES))
    shift = b.op("Neg", bias, shape=[1, width], name="shift")
    hidden = x
    for i in range(blocks):
        full: list[int | str] = [BATCH, width]
        base = b.op("MatMul", hidden, b.weight(f"layer.{i}.weight", width, width), shape=full, name=f"layer.{i}.base")
        if slots:
            base = _beside(b, hidden, base, sites[i], i, width)
        bent = b.op("Tanh", base, shape=full, name=f"layer.{i}.tanh")
        summed = b.op("Add", hidden, bent, shape=full, name=f"layer.{i}.sum")
        hidden = b.op("Add", summed, shift, shape=full, name=f"layer.{i}.out")
    features = b.op("Tanh", hidden, shape=[BATCH, width], name="features")
    raw = b.op("MatMul", features, head, shape=[BATCH, CLASSES], name="raw")
    logits = b.op("Add", raw, offset, shape=[BATCH, CLASSES], name="logits")
    return b.model(features=features, logits=logits)


def _slot(b: Builder, name: str, symbol: str, width: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    return (
        b.input(f"slot.{name}.A", [width, symbol], np.zeros((width, 0))),
        b.input(f"slot.{name}.B", [symbol, width], np.zeros((0, width))),
        b.input(f"slot.{name}.scale", [], 1.0),
    )


def _beside(
    b: Builder, x: ir.Value, base: ir.Value, site: tuple[ir.Value, ir.Value, ir.Value], i: int, width: int
) -> ir.Value:
    a, factor, scale = site
    narrow = b.op("MatMul", x, a, shape=[BATCH, f"r_{i}"], name=f"layer.{i}.down")
    scaled = b.op("Mul", narrow, scale, shape=[BATCH, f"r_{i}"], name=f"layer.{i}.scaled")
    change = b.op("MatMul", scaled, factor, shape=[BATCH, width], name=f"layer.{i}.up")
    return b.op("Add", base, change, shape=[BATCH, width], name=f"layer.{i}.with_slot")


def feeds(blocks: int = 3, *, rank: int = 2, seed: int = 9, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Every input of `residual_mlp`, and labels and weights."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    values = {"x": draw(BATCH, width), "bias": draw(1, width)}
    for i in range(blocks):
        values |= {f"slot.layer.{i}.A": draw(width, rank), f"slot.layer.{i}.B": draw(rank, width)}
        values[f"slot.layer.{i}.scale"] = np.asarray(0.5, np.float32)
    values |= {"head.weight": draw(width, CLASSES), "head.bias": draw(CLASSES)}
    return values | {"labels": np.array([0, 2, 1, -100]), "weights": np.array([1, 2, 0.5, 1], np.float32)}
