"""Cross entropy over a vocabulary in parts, and its gradient, without logits of all of it.

Wijmans et al. 2024, "Cut your losses in large-vocabulary language models", arXiv:2411.09009, section 4. With
z_c = h W_c for each part c of the vocabulary:

    lse = log sum_c exp(lse_c)                  loss = sum_i w_i (lse_i - z_i[label_i])
    dh  = sum_c w (exp(z_c - lse) - onehot_c) W_c^T

The products are made twice, once for lse and once for dh: a third more work in the output layer, in place of
logits, their softmax and its gradient, all of them rows x vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, fixed
from export.gradient.tape import Tape


def append_split_cross_entropy(
    graph: ir.Graph, hidden: ir.Value, parts: Sequence[ir.Value], labels: ir.Value, weights: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Append the loss of `export.gradient.loss.append_cross_entropy`, and its gradient with respect to `hidden`.

    Args:
        graph: the graph that holds the values; nodes are appended to it.
        hidden: [..., D], N rows.
        parts: the weight in parts [D, columns], the columns of one after those of the other.
        labels: int64 [N], each below the number of columns; negative ones do not count.
        weights: [N], of the type of `hidden`.

    Returns:
        The loss, shape [], and the gradient, of the shape of `hidden`.
    """
    t = Tape(graph)
    t.scope = "loss"
    rows = t.rows(hidden)
    counts = t.binary("GreaterOrEqual", labels, t.constant(np.array(0), ir.DataType.INT64), ir.DataType.BOOL)
    weight = t.unsqueeze(t.where(counts, weights, 0.0), [1])
    counted = t.unsqueeze(counts, [1])
    starts = np.cumsum([0, *(fixed(dims_of(part)[1]) for part in parts)])
    own = [_own(t, labels, int(a), int(b)) for a, b in pairwise(starts)]
    logs, picked = [], None
    for part, (inside, index) in zip(parts, own, strict=True):
        z = t.matmul(rows, part)
        found = t.where(inside, t.emit("GatherElements", [z, index], dims_of(inside), dtype_of(z), {"axis": 1}), 0.0)
        picked = found if picked is None else t.add(picked, found)
        logs.append(_log_sum(t, z))
    lse = _log_sum(t, t.concat(logs, 1))
    assert picked is not None, "there is a part"  # noqa: S101  # for the type checker: no parts, no output layer
    # a row that does not count may hold anything, also NaN, and 0 * NaN is not 0
    losses = t.where(counted, t.sub(lse, picked), 0.0)
    loss = t.reduce_sum(t.mul(losses, weight), [0, 1], keepdims=False)
    gradient = None
    for part, (inside, index) in zip(parts, own, strict=True):
        z = t.matmul(rows, part)
        p = t.mul(t.unary("Exp", t.sub(z, lse)), weight)
        less = t.where(inside, t.neg(weight), 0.0)
        dz = t.emit("ScatterElements", [p, index, less], dims_of(z), dtype_of(z), {"axis": 1, "reduction": "add"})
        dh = t.matmul(dz, part, trans_b=True)
        gradient = dh if gradient is None else t.add(gradient, dh)
    assert gradient is not None, "there is a part"  # noqa: S101  # as above
    return loss, t.reshape(gradient, dims_of(hidden))


def _own(t: Tape, labels: ir.Value, start: int, stop: int) -> tuple[ir.Value, ir.Value]:
    """Whether a row's label is among columns, bool [N, 1], and which of them it is, int64 [N, 1], 0 where none."""
    first, last, zero = (t.constant(np.array(n), ir.DataType.INT64) for n in (start, stop, 0))
    above = t.binary("GreaterOrEqual", labels, first, ir.DataType.BOOL)
    inside = t.binary("And", above, t.binary("Less", labels, last, ir.DataType.BOOL), ir.DataType.BOOL)
    index = t.where(inside, t.sub(labels, first), zero)
    return t.unsqueeze(inside, [1]), t.unsqueeze(index, [1])


def _log_sum(t: Tape, z: ir.Value) -> ir.Value:
    """log sum exp over the columns, kept as one: [N, 1]."""
    dims = (dims_of(z)[0], 1)
    largest = t.emit("ReduceMax", [z, t.ints([1])], dims, dtype_of(z), {"keepdims": 1})
    return t.add(largest, t.unary("Log", t.reduce_sum(t.unary("Exp", t.sub(z, largest)), [1])))
