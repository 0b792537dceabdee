"""Rules of layer normalizations."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir

from export.gradient.dims import Dims, dims_of, dtype_of
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


def _axes(c: Call) -> list[int]:
    rank = len(dims_of(c.input(0)))
    return list(range(c.int("axis", -1) % rank, rank))


def _statistics(t: Tape, node: ir.Node, dims: Dims, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
    """The mean and the inverse deviation that the operator computes anyway, as its outputs 2 and 3."""
    if len(node.outputs) < 3:
        node.resize_outputs(3)
    for value in node.outputs[1:3]:
        if not value.name:
            value.name = t.fresh(f"{node.name or node.op_type}/statistics")
        value.shape, value.dtype = ir.Shape(dims), dtype
    return node.outputs[1], node.outputs[2]


@rule("LayerNormalization")
def layer_normalization(t: Tape, c: Call) -> Products:
    """Ba, Kiros and Hinton, arXiv:1607.06450: y = h scale + bias, h = (x - mean) inv.

    q = g scale: dx = inv (q - mean(q) - h mean(q h)); dscale = red(g h, scale); dbias = red(g, bias).
    """
    x, scale, axes = c.input(0), c.input(1), _axes(c)
    kept = tuple(1 if i in axes else dim for i, dim in enumerate(dims_of(x)))
    stash = ir.DataType(c.int("stash_type", int(ir.DataType.FLOAT)))

    @cache
    def statistics() -> tuple[ir.Value, ir.Value]:
        mean, inv = _statistics(t, c.node, kept, stash)
        return t.cast(mean, dtype_of(x)), t.cast(inv, dtype_of(x))

    @cache
    def h() -> ir.Value:
        mean, inv = statistics()
        return t.mul(t.sub(x, mean), inv)

    def dx() -> ir.Value:
        q = t.mul(c.g, scale)
        centred = t.sub(q, t.reduce_mean(q, axes))
        slope = t.reduce_mean(t.mul(q, h()), axes)
        return t.mul(t.sub(centred, t.mul(h(), slope)), statistics()[1])

    return {
        0: dx,
        1: lambda: t.red(t.mul(c.g, h()), scale),
        2: lambda: t.red(c.g, c.input(2)),
    }


@rule("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(t: Tape, c: Call) -> Products:
    """Zhang and Sennrich, arXiv:1910.07467, equation 4: y = h scale, h = x inv, inv = 1/sqrt(mean(x x) + eps).

    q = g scale: dx = inv (q - h mean(q h)); dscale = red(g h, scale). inv is computed again from x.
    """
    x, scale, axes = c.input(0), c.input(1), _axes(c)
    epsilon = c.float("epsilon", 1e-5)

    @cache
    def inv() -> ir.Value:
        square = t.reduce_mean(t.mul(x, x), axes)
        return t.unary("Reciprocal", t.unary("Sqrt", t.add(square, epsilon)))

    @cache
    def h() -> ir.Value:
        return t.mul(x, inv())

    def dx() -> ir.Value:
        q = t.mul(c.g, scale)
        slope = t.reduce_mean(t.mul(q, h()), axes)
        return t.mul(t.sub(q, t.mul(h(), slope)), inv())

    return {0: dx, 1: lambda: t.red(t.mul(c.g, h()), scale)}
