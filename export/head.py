"""The head: tokens to one vector, and that vector to one logit per class.

features = sqrt(D) pooled / |pooled|: every feature then has unit mean square, whatever the encoder, so that
one learning rate and one ridge serve all. logits = features W + b, with W [D, classes] and b [classes] as
graph inputs that are zero unless fed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, add_input
from export.linears import constant

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


def append_head(model: ir.Model, hidden: str, modality: str, classes: int) -> HeadSite:
    """Pool, normalise and classify, in place; `features` and `logits` become the only outputs.

    Args:
        model: a captured graph, before its dimensions are fixed.
        hidden: the output [batch, tokens, D].
        modality: text is pooled over the tokens that attention_mask marks, anything else over all.
        classes: how many labels there are.

    Raises:
        UnsupportedModel: D is not known, or `hidden` is no output.
    """
    graph = model.graph
    tokens = next((value for value in graph.outputs if value.name == hidden), None)
    size = _features(graph, tokens)
    if tokens is None or size is None:
        raise UnsupportedModel(
            f"expected an output {hidden} [batch, tokens, features] with a known number of features, "
            f"found {', '.join(f'{o.name} {o.shape}' for o in graph.outputs)}"
        )
    edit = Edit(graph, "/head")
    pooled = _mean_of_marked(edit, graph, tokens) if modality == "text" else _mean(edit, tokens)
    features = edit.op("Mul", _unit(edit, pooled), edit.constant("length", math.sqrt(size)))
    weight = add_input(graph, WEIGHT, np.zeros((size, classes), np.float32), [size, classes])
    bias = add_input(graph, BIAS, np.zeros(classes, np.float32), [classes])
    logits = edit.op("Add", edit.op("MatMul", features, weight), bias)
    edit.put_last()
    graph.outputs.clear()
    batch = graph.inputs[0].shape[0] if graph.inputs[0].shape else None
    for value, name, columns in ((features, "features", size), (logits, "logits", classes)):
        value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([batch, columns])
        graph.outputs.append(value)
    return HeadSite(size, WEIGHT, BIAS, "features", "logits", "mean")


def _features(graph: ir.Graph, tokens: ir.Value | None) -> int | None:
    """The last dimension of `tokens`; exporters of pictures leave it symbolic, its LayerNormalization knows."""
    if tokens is None:
        return None
    if tokens.shape is not None and isinstance(tokens.shape[-1], int):
        return tokens.shape[-1]
    node = tokens.producer()
    scale = constant(node.inputs[1]) if node is not None and node.op_type == "LayerNormalization" else None
    return scale.size if scale is not None else None


def _mean_of_marked(edit: Edit, graph: ir.Graph, tokens: ir.Value) -> ir.Value:
    """Sum of m_t h_t over t, divided by the sum of m_t: [batch, D].

    As one row times one matrix per example: no product of the size of all tokens is kept.
    """
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    marked = edit.op("Cast", mask, attributes={"to": int(ir.DataType.FLOAT)})
    tokens_axis = edit.constant("tokens_axis", [1], np.int64)
    count = edit.op("ReduceSum", marked, tokens_axis, attributes={"keepdims": 1})
    # an example without a marked token pools to zero, not to NaN
    share = edit.op("Div", marked, edit.op("Clip", count, edit.constant("one", 1.0)))
    row = edit.op("MatMul", edit.op("Unsqueeze", share, tokens_axis), tokens)
    return edit.op("Squeeze", row, tokens_axis)


def _mean(edit: Edit, tokens: ir.Value) -> ir.Value:
    return edit.op("ReduceMean", tokens, edit.constant("tokens_axis", [1], np.int64), attributes={"keepdims": 0})


def _unit(edit: Edit, x: ir.Value) -> ir.Value:
    """Divide by the length, x / sqrt(x x + epsilon^2), so that a zero vector has gradients of zero.

    An example that only fills a batch is one. max(|x|, epsilon) would do for the value, but the gradient of
    |x| at zero is 0 / 0.
    """
    last = edit.constant("last", [-1], np.int64)
    square = edit.op("ReduceSum", edit.op("Mul", x, x), last, attributes={"keepdims": 1})
    return edit.op("Div", x, edit.op("Sqrt", edit.op("Add", square, edit.constant("epsilon", EPSILON**2))))
