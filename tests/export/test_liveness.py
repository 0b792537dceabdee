"""Live bytes of small graphs, worked out by hand; one item is 4 x 6 floats, 96 bytes."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from export.gradient.backward import LossSpec, build_backward
from export.liveness import live_bytes
from tests.export.graphs import WIDTH, Builder, residual_mlp

ITEM = 4 * WIDTH * 4


def full(b: Builder, op_type: str, *inputs: ir.Value, name: str) -> ir.Value:
    """A node that makes one item."""
    return b.op(op_type, *inputs, shape=[4, WIDTH], name=name)


def in_place(b: Builder, x: ir.Value) -> ir.Value:
    """Tanh may write over what MatMul made; MatMul may not write over its input."""
    h = full(b, "MatMul", x, b.weight("w", WIDTH, WIDTH), name="h")
    return full(b, "MatMul", full(b, "Tanh", h, name="t"), b.weight("v", WIDTH, WIDTH), name="y")


def arithmetic(b: Builder, x: ir.Value) -> ir.Value:
    """Plain arithmetic writes to a tensor of its own; the buffer freed before goes to the next of its shape."""
    h = full(b, "Neg", x, name="h")
    return full(b, "Neg", full(b, "Exp", full(b, "Exp", h, name="e"), name="f"), name="y")


def read_again(b: Builder, x: ir.Value) -> ir.Value:
    """What is read later is not written over."""
    h = full(b, "MatMul", x, b.weight("w", WIDTH, WIDTH), name="h")
    return full(b, "Add", full(b, "Tanh", h, name="t"), h, name="y")


def where(b: Builder, x: ir.Value) -> ir.Value:
    """Where selects from each side into a tensor of its own: two full ones here, besides h and the output."""
    h = full(b, "Neg", x, name="h")
    return full(b, "Where", full(b, "Neg", x, name="c"), h, x, name="y")


def alias(b: Builder, x: ir.Value) -> ir.Value:
    """A reshaped tensor is the same memory, and lives as long as its last reader needs it."""
    h = full(b, "Neg", x, name="h")
    flat = b.op("Reshape", h, b.weight("shape", 1), shape=[4 * WIDTH], name="flat")
    return full(b, "Reshape", b.op("Exp", flat, shape=[4 * WIDTH], name="e"), b.weight("s", 2), name="y")


def spare(b: Builder, x: ir.Value) -> ir.Value:
    """A freed buffer waits for the next value of its shape: alive beside the wide one though nobody reads it."""
    h = full(b, "MatMul", x, b.weight("w", WIDTH, WIDTH), name="h")
    wide = b.op("MatMul", h, b.weight("up", WIDTH, 60), shape=[4, 60], name="wide")
    bent = b.op("Erf", wide, shape=[4, 60], name="bent")
    narrow = full(b, "MatMul", bent, b.weight("down", 60, WIDTH), name="narrow")
    return full(b, "Erf", narrow, name="y")


CASES: dict[str, tuple[Callable[[Builder, ir.Value], ir.Value], list[int]]] = {
    "in place": (in_place, [1, 1, 2]),
    "arithmetic": (arithmetic, [1, 2, 2, 2]),
    "read again": (read_again, [1, 2, 3]),
    "where": (where, [1, 2, 5]),
    "alias": (alias, [1, 1, 2, 2]),
    "spare": (spare, [1, 11, 21, 11, 2]),
}


@pytest.mark.parametrize("case", CASES)
def test_live_bytes(case: str) -> None:
    """Bytes alive at each node, in items; inputs that are fed and weights are not counted."""
    make, expected = CASES[case]
    b = Builder(4)
    model = b.model(out=make(b, b.input("x", [4, WIDTH])))
    assert [n / ITEM for n in live_bytes(model.graph)] == expected


def test_without_handing_on() -> None:
    """What the values themselves need is never more than with buffers that wait."""
    b = Builder(4)
    model = b.model(out=spare(b, b.input("x", [4, WIDTH])))
    assert [n / ITEM for n in live_bytes(model.graph, hand_on=False)] == [1, 11, 20, 11, 2]


def test_a_rank_counts_what_it_is_given() -> None:
    """A rank symbol is a number once a board is known."""
    forward = residual_mlp()
    backward = build_backward(forward, wanted=["slot.layer.0.A", "slot.layer.0.B"], loss=LossSpec())
    most = {
        name: max(live_bytes(model.graph, rank=1)) for name, model in (("forward", forward), ("backward", backward))
    }
    assert max(live_bytes(backward.graph, rank=1000)) > most["backward"] >= most["forward"]
