"""Small nets of several shapes: everything that the tools take, and much that they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tests.export.graphs import Builder

BATCH = 4


def mlp(batch: int | str = BATCH) -> ir.Model:
    """x [batch, 12] through Gemm with a transposed weight, Relu, MatMul, and Gemm with alpha: y [batch, 5]."""
    b = Builder(11)
    x = b.input("x", [batch, 12])
    h = b.op("Gemm", x, b.weight("a.w", 16, 12), b.weight("a.b", 16), shape=[batch, 16], name="a", transB=1)
    h = b.op("Relu", h, shape=[batch, 16], name="r")
    h = b.op("MatMul", h, b.weight("b.w", 16, 10), shape=[batch, 10], name="b")
    return b.model(y=b.op("Gemm", h, b.weight("c.w", 10, 5), shape=[batch, 5], name="c", alpha=0.5))


def cnn(**settings: Any) -> ir.Model:
    """Pictures [4, 3, 8, 8] through a convolution, pooling, a depthwise one beside a residual, a strided one: y [4, 5].

    Args:
        settings: attributes of the strided convolution instead of its pads.
    """
    b = Builder(3)
    x = b.input("x", [BATCH, 3, 8, 8])
    h = b.op(
        "Conv", x, b.weight("c1.w", 8, 3, 3, 3), b.weight("c1.b", 8), shape=[BATCH, 8, 8, 8], name="c1", pads=[1] * 4
    )
    h = b.op("Relu", h, shape=[BATCH, 8, 8, 8], name="r1")
    h = b.op("MaxPool", h, shape=[BATCH, 8, 4, 4], name="p1", kernel_shape=[2, 2], strides=[2, 2])
    deep = b.op("Conv", h, b.weight("c2.w", 8, 1, 3, 3), shape=[BATCH, 8, 4, 4], name="c2", pads=[1] * 4, group=8)
    h = b.op("Add", deep, h, shape=[BATCH, 8, 4, 4], name="sum")
    h = b.op("Relu", h, shape=[BATCH, 8, 4, 4], name="r2")
    more = settings or {"pads": [1] * 4}
    w, bias = b.weight("c3.w", 16, 8, 3, 3), b.weight("c3.b", 16)
    h = b.op("Conv", h, w, bias, shape=[BATCH, 16, 2, 2], name="c3", strides=[2, 2], **more)
    h = b.op("Flatten", h, shape=[BATCH, 64], name="flat")
    y = b.op("Gemm", h, b.weight("fc.w", 5, 64), b.weight("fc.b", 5), shape=[BATCH, 5], name="fc", transB=1)
    return b.model(y=y)


CNN_WEIGHTS = ("c1.w", "c2.w", "c3.w", "fc.w")


def both() -> ir.Model:
    """One x [4, 6, 6] that a convolution over the last axis and a matrix product read: y [4, 6, 3]."""
    b = Builder(5)
    x = b.input("x", [BATCH, 6, 6])
    one = b.op("Conv", x, b.weight("c.w", 6, 6, 3), shape=[BATCH, 6, 6], name="c", pads=[1, 1])
    two = b.op("MatMul", x, b.weight("m.w", 6, 6), shape=[BATCH, 6, 6], name="m")
    return b.model(y=b.op("Add", one, two, shape=[BATCH, 6, 6], name="sum"))


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Input from a seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pictures(count: int = 24, seed: int = 0) -> dict[str, np.ndarray]:
    """Items for `cnn`."""
    return {"x": drawn(count, 3, 8, 8, seed=seed)}


def work(folder: Path) -> Path:
    """A folder that has to be empty again."""
    made = folder / "work"
    made.mkdir()
    return made


def operators(model: ir.Model) -> list[str]:
    """Operators in file order."""
    return [node.op_type for node in model.graph]


def numbers(model: ir.Model, name: str) -> np.ndarray:
    """An initializer."""
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()
