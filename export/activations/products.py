"""Where a graph multiplies integers: the products of `dynamic` and `static`, and what is rounded to feed them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.activations.fuse import entry, only_reader
from export.activations.integers import Window
from export.gradient.present import present

Array = NDArray[Any]
Steps = tuple[np.float32, int]

PRODUCTS = frozenset({"MatMulIntegerToFloat", "ConvInteger", "QLinearConv"})
ROUNDINGS = frozenset({"QuantizeLinear", "DequantizeLinear"})  # the second: of activations only


@dataclass(frozen=True)
class Product:
    """A quantized node.

    Attributes:
        node: MatMulIntegerToFloat, ConvInteger or QLinearConv.
        x: its input as float where scales are found at run time, else as uint8.
        x_steps: scale of x and its zero point; None where they are found at run time.
        w: integers without their zero point.
        scale: of w, one or one for every output channel.
        bias: int32 in steps of both scales of a convolution, float of a product of matrices; None where there is none.
        y: its output, as float or as uint8.
        y_steps: scale and zero point of a uint8 output.
        window: of a convolution.
    """

    node: ir.Node
    x: ir.Value
    x_steps: Steps | None
    w: Array
    scale: Array
    bias: Array | None
    y: ir.Value
    y_steps: Steps | None
    window: Window | None


def products(graph: ir.Graph) -> Iterator[Product]:
    """All quantized products of a graph, in file order."""
    rules = {"MatMulIntegerToFloat": _matrices, "ConvInteger": _dynamic_convolution, "QLinearConv": _convolution}
    for node in graph:
        if node.op_type in rules:
            yield rules[node.op_type](node)


def roundings(graph: ir.Graph) -> list[ir.Node]:
    """Every QuantizeLinear of a graph, and every DequantizeLinear of what is no weight."""
    return [node for node in graph if node.op_type in ROUNDINGS and entry(node, 0).const_value is None]


def steps_at(node: ir.Node, scale: int, zero_point: int) -> Steps:
    """Scale and zero point of a whole tensor, by the inputs that they are."""
    return np.float32(_number(node, scale).reshape(())), int(_number(node, zero_point).reshape(()))


def _number(node: ir.Node, index: int) -> Array:
    """A constant, turned around where a Transpose does that at every run (`export.activations.half`)."""
    value = entry(node, index)
    turned = value.producer()
    if turned is not None and turned.op_type == "Transpose":
        return np.transpose(present(entry(turned, 0).const_value).numpy(), turned.attributes["perm"].as_ints())
    return present(value.const_value).numpy()


def _weight(node: ir.Node, index: int, zero_point: int, axis: int) -> Array:
    w, zero = _number(node, index).astype(np.int64), _number(node, zero_point).astype(np.int64)
    return w - (zero.reshape([-1 if k == axis else 1 for k in range(w.ndim)]) if zero.size > 1 else zero.reshape(()))


def _matrices(node: ir.Node) -> Product:
    """x, W, scale of x, scale of W, zero point of x, zero point of W, bias."""
    source = entry(node, 2).producer()
    steps = steps_at(node, 2, 4) if source is None else None
    x = entry(node, 0) if source is None else entry(source, 0)
    bias = _number(node, 6) if len(node.inputs) > 6 else None
    return Product(node, x, steps, _weight(node, 1, 5, 1), _number(node, 3), bias, node.outputs[0], None, None)


def _dynamic_convolution(node: ir.Node) -> Product:
    """DynamicQuantizeLinear -> ConvInteger(x, W, zero points) -> Cast -> Mul(scale of x times scale of W)."""
    x = entry(present(entry(node, 0).producer()), 0)
    cast = only_reader(node)
    last = only_reader(cast)
    both = next(value for value in last.inputs if value is not cast.outputs[0])
    scales = present(present(both).producer()).inputs
    scale = next(v.const_value.numpy() for v in scales if v is not None and v.const_value is not None)
    w = _weight(node, 1, 3, 0)
    return Product(node, x, None, w, scale, None, last.outputs[0], None, window_at(node))


def _convolution(node: ir.Node) -> Product:
    """x, scale, zero point; W, scale, zero point; scale and zero point of the output; bias."""
    x, w = entry(node, 0), _weight(node, 3, 5, 0)
    bias = _number(node, 8).astype(np.int64) if len(node.inputs) > 8 else None
    steps, made = steps_at(node, 1, 2), steps_at(node, 6, 7)
    return Product(node, x, steps, w, _number(node, 4), bias, node.outputs[0], made, window_at(node))


def window_at(node: ir.Node) -> Window:
    """How a convolution moves."""
    named = {name: attribute.value for name, attribute in node.attributes.items()}
    settings = {name: named[name] for name in ("strides", "dilations", "pads", "auto_pad") if name in named}
    return Window(groups=named.get("group", 1), **settings)
