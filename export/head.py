"""The head: tokens or pixels to one vector, and that vector to one logit per class.

pooled is what `export.features` says. features = sqrt(D) pooled / |pooled|: every feature then has unit mean square,
whatever the model, so that one learning rate and one ridge serve all. logits = features W + b, with W [D, classes] and
b [classes] as graph inputs that are zero unless fed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, add_input
from export.features import CALLED, LOGITS, MASK, Features

# as in torch.nn.functional.normalize: the least length that a vector is divided by
EPSILON = 1e-12
INPUTS = WEIGHT, BIAS = "head.weight", "head.bias"


@dataclass(frozen=True)
class HeadSite:
    """A head in a graph: D, and the names of its inputs and outputs."""

    features: int
    weight: str
    bias: str
    features_output: str
    logits_output: str
    pooling: str


def append_head(model: ir.Model, features: Features, classes: int) -> HeadSite:
    """Pool, normalise and classify, in place; `features` and `logits` become the only outputs.

    Args:
        model: a captured graph, before its dimensions are fixed.
        features: the output that the head goes on, see `find_features`.
        classes: how many labels there are.

    Raises:
        UnsupportedModel: that is no output, or an input is called as the logits must be.
    """
    graph, size = model.graph, features.size
    hidden = next((value for value in graph.outputs if value.name == features.name), None)
    if hidden is None:
        raise UnsupportedModel(
            f"expected an output {features.name} for a head, "
            f"found {', '.join(f'{o.name} {o.shape}' for o in graph.outputs)}"
        )
    edit, name = Edit(graph, "/head"), _free_names(graph)
    unit = _unit(edit, _pooled(edit, graph, hidden, features))
    unit = edit.op("Mul", unit, edit.constant("length", math.sqrt(size)))
    weight = add_input(graph, WEIGHT, np.zeros((size, classes), np.float32), [size, classes])
    bias = add_input(graph, BIAS, np.zeros(classes, np.float32), [classes])
    logits = edit.op("Add", edit.op("MatMul", unit, weight), bias)
    edit.put_last()
    graph.outputs.clear()
    for value, called, columns in ((unit, name, size), (logits, LOGITS, classes)):
        value.name, value.type, value.shape = called, ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", columns])
        graph.outputs.append(value)
    return HeadSite(size, WEIGHT, BIAS, name, LOGITS, features.pooling)


def _free_names(graph: ir.Graph) -> str:
    """What the features are called; values inside the model that have the head's names get others.

    Raises:
        UnsupportedModel: an input, whose name is the user's, is called as the logits must be.
    """
    inputs = {value.name for value in graph.inputs}
    if LOGITS in inputs:
        raise UnsupportedModel(f"expected inputs that are not called {LOGITS}, as a head's output is; rename it")
    own = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for value in own:
        if value.name in (*CALLED, LOGITS) and not value.is_graph_input():
            value.name = f"{value.name}/own"
    return next(name for name in CALLED if name not in inputs)


def _pooled(edit: Edit, graph: ir.Graph, hidden: ir.Value, features: Features) -> ir.Value:
    """One vector per item, [batch, D]."""
    if not features.pooled:
        return hidden
    mask = next((value for value in graph.inputs if value.name == MASK), None)
    if mask is not None and features.pooling == "mean":
        return _mean_of_marked(edit, mask, hidden)
    axes = edit.constant("pooled_axes", features.pooled, np.int64)
    return edit.op("ReduceMean", hidden, axes, attributes={"keepdims": 0})


def _mean_of_marked(edit: Edit, mask: ir.Value, tokens: ir.Value) -> ir.Value:
    """Sum of m_t h_t over t, divided by the sum of m_t: [batch, D].

    As one row times one matrix per example: no product of the size of all tokens is kept.
    """
    marked = edit.op("Cast", mask, attributes={"to": int(ir.DataType.FLOAT)})
    tokens_axis = edit.constant("tokens_axis", [1], np.int64)
    count = edit.op("ReduceSum", marked, tokens_axis, attributes={"keepdims": 1})
    # an example without a marked token pools to zero, not to NaN
    share = edit.op("Div", marked, edit.op("Clip", count, edit.constant("one", 1.0)))
    row = edit.op("MatMul", edit.op("Unsqueeze", share, tokens_axis), tokens)
    return edit.op("Squeeze", row, tokens_axis)


def _unit(edit: Edit, x: ir.Value) -> ir.Value:
    """Divide by the length, x / sqrt(x x + epsilon^2), so that a zero vector has gradients of zero.

    An example that only fills a batch is one. max(|x|, epsilon) would do for the value, but the gradient of
    |x| at zero is 0 / 0.
    """
    last = edit.constant("last", [-1], np.int64)
    square = edit.op("ReduceSum", edit.op("Mul", x, x), last, attributes={"keepdims": 1})
    return edit.op("Div", x, edit.op("Sqrt", edit.op("Add", square, edit.constant("epsilon", EPSILON**2))))
