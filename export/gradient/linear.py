"""Rules of matrix products.

With y = alpha op(a) op(b), where op transposes the last two axes or does nothing:

    da = alpha g op(b)^T        (transposed if a is)
    db = alpha op(a)^T g        (transposed if b is)

each summed over the leading axes that were broadcast. Of a constant operand only the other side is
wanted, and the weight is read in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from export.gradient.dims import dims_of
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import MICROSOFT, Tape


@dataclass(frozen=True)
class Form:
    """Which operands are transposed, and the factor in front."""

    trans_a: bool = False
    trans_b: bool = False
    alpha: float = 1.0


def left_gradient(t: Tape, g: ir.Value, a: ir.Value, b: ir.Value, form: Form) -> ir.Value:
    """The gradient of the left operand, of the shape of `a`; both have rank 2 or more."""
    b = t.again(b)
    if form.trans_a:
        return t.red(t.matmul(b, g, trans_a=form.trans_b, trans_b=True, alpha=form.alpha), a)
    return t.red(t.matmul(g, b, trans_b=not form.trans_b, alpha=form.alpha), a)


def right_gradient(t: Tape, g: ir.Value, a: ir.Value, b: ir.Value, form: Form) -> ir.Value:
    """The gradient of the right operand, of the shape of `b`; both have rank 2 or more.

    A two-dimensional `b` under a deeper `a` is one product over all rows: no batch of products is summed.
    """
    if len(dims_of(b)) == 2 and len(dims_of(a)) > 2 and not form.trans_a:
        a, g = t.rows(a), t.rows(g)
    if form.trans_b:
        return t.red(t.matmul(g, a, trans_a=True, trans_b=form.trans_a, alpha=form.alpha), b)
    return t.red(t.matmul(a, g, trans_a=not form.trans_a, alpha=form.alpha), b)


@rule("MatMul")
def matmul(t: Tape, c: Call) -> Products:
    """`y = a b`: da = red(g b^T, a), db = red(a^T g, b); vectors are matrices of one row or column."""
    a, b = c.input(0), c.input(1)
    vector_a, vector_b = len(dims_of(a)) == 1, len(dims_of(b)) == 1

    def lifted() -> tuple[ir.Value, ir.Value, ir.Value]:
        g = c.g
        if vector_b:
            g = t.unsqueeze(g, [len(dims_of(g))])
        if vector_a:
            g = t.unsqueeze(g, [len(dims_of(g)) - 1])
        return g, t.unsqueeze(a, [0]) if vector_a else a, t.unsqueeze(b, [1]) if vector_b else b

    def left() -> ir.Value:
        da = left_gradient(t, *lifted(), Form())
        return t.squeeze(da, [0]) if vector_a else da

    def right() -> ir.Value:
        db = right_gradient(t, *lifted(), Form())
        return t.squeeze(db, [1]) if vector_b else db

    return {0: left, 1: right}


def _batch_transposed(node: ir.Node) -> str | None:
    flags = [name for name in ("transBatchA", "transBatchB") if name in node.attributes]
    used = [name for name in flags if node.attributes[name].as_int()]
    return f"attribute {used[0]} is set" if used else None


@rule("FusedMatMul", domain=MICROSOFT, check=_batch_transposed)
def fused_matmul(t: Tape, c: Call) -> Products:
    """`y = alpha op(a) op(b)`, leading axes broadcast."""
    a, b = c.input(0), c.input(1)
    form = Form(bool(c.int("transA", 0)), bool(c.int("transB", 0)), c.float("alpha", 1.0))
    return {0: lambda: left_gradient(t, c.g, a, b, form), 1: lambda: right_gradient(t, c.g, a, b, form)}


@rule("Gemm")
def gemm(t: Tape, c: Call) -> Products:
    """`y = alpha op(a) op(b) + beta c`: da, db as above; dc = beta red(g, c)."""
    beta = c.float("beta", 1.0)

    def bias() -> ir.Value:
        dc = t.red(c.g, c.input(2))
        return dc if beta == 1.0 else t.mul(dc, beta)

    return {**fused_matmul(t, c), 2: bias}
