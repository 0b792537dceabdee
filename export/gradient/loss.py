"""Cross entropy and its gradient, written by hand: no one-hot matrix of rows x classes is ever formed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, size_of
from export.gradient.tape import Tape


def append_cross_entropy(
    graph: ir.Graph, logits: ir.Value, labels: ir.Value, weights: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Append `loss = sum_i w_i (-log softmax(logits_i)[label_i])` and its gradient.

    It is a sum, not a mean, so that the losses and gradients of micro-batches add up; the caller divides,
    or puts 1 / (number of labels) into the weights. Rows with a negative label (-100) count nothing.

    Args:
        graph: The graph that holds the three values; nodes are appended to it.
        logits: `[..., C]`, floating type; N rows.
        labels: int64 `[N]`, each below C.
        weights: `[N]`, of the type of the logits.

    Returns:
        The loss, shape `[]`, and its gradient with respect to the logits:
        `w_i (softmax(logits_i) - onehot(label_i))`.
    """
    t = Tape(graph)
    t.scope = "loss"
    dtype, dims = dtype_of(logits), dims_of(logits)
    rows = t.rows(logits)
    shape = dims_of(rows)
    zero = t.constant(np.array(0), ir.DataType.INT64)
    counts = t.binary("GreaterOrEqual", labels, zero, ir.DataType.BOOL)
    safe = t.unsqueeze(t.where(counts, labels, zero), [1])
    weight = t.unsqueeze(t.where(counts, weights, 0.0), [1])
    log_p = t.emit("LogSoftmax", [rows], shape, dtype, {"axis": 1})
    picked = t.emit("GatherElements", [log_p, safe], (shape[0], 1), dtype, {"axis": 1})
    # A masked row may hold anything, also -inf, and 0 * -inf is not 0.
    picked = t.where(t.unsqueeze(counts, [1]), picked, 0.0)
    loss = t.neg(t.reduce_sum(t.mul(picked, weight), [0, 1], keepdims=False))
    expected = t.mul(t.unary("Exp", log_p), weight)
    dlogits = t.emit("ScatterElements", [expected, safe, t.neg(weight)], shape, dtype, {"axis": 1, "reduction": "add"})
    return loss, t.reshape(dlogits, dims)


def label_count(logits: ir.Value) -> int:
    """N, the number of rows of `logits` `[..., C]`."""
    return size_of(dims_of(logits)[:-1])
