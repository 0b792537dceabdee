"""A bias goes into the product that it follows, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from export.activations.half import round_forward_half
from export.bias import fold_bias
from export.formats.rewrite import quantize_weights
from tests.export.graphs import Builder
from tests.export.runtime import run

IN, OUT = 40, 64
ROWS: list[int | str] = [2, 3, OUT]


def layer(quant: str = "fp32", *, integers: bool = False, slot: bool = False, flat: bool = False) -> ir.Model:
    """x W (+ x S) + b, of two axes or three, with W in a format."""
    b = Builder(2)
    shape: list[int | str] = [6, OUT] if flat else ROWS
    x = b.input("x", [*shape[:-1], IN])
    y = b.op("MatMul", x, b.weight("w", IN, OUT), shape=shape, name="product")
    if slot:
        s = b.input("s", [IN, OUT], np.zeros((IN, OUT)))
        y = b.op("Add", y, b.op("MatMul", x, s, shape=shape, name="change"), shape=shape, name="slot")
    made = b.model(y=b.op("Neg", b.op("Add", b.weight("b", OUT), y, shape=shape, name="sum"), shape=shape, name="n"))
    quantize_weights(made, quant, backward=True)
    if integers:
        assert round_forward_half(made) == 1
    return made


FORMS: dict[str, Callable[[], ir.Model]] = {
    "float": layer,
    "float, two axes": lambda: layer(flat=True),
    "restored": lambda: layer("int8"),
    "restored from blocks": lambda: layer("int8-blocks"),
    "integers": lambda: layer("int8", integers=True),
    "behind a slot": lambda: layer("int8", slot=True),
    "integers behind a slot": lambda: layer("int8", integers=True, slot=True),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_product_takes_its_bias(name: str) -> None:
    """In every form the outputs are the same up to rounding, and one Add less is run."""
    model = FORMS[name]()
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.normal(size=(6, IN) if "two" in name else (2, 3, IN)).astype(np.float32),
        "s": rng.normal(size=(IN, OUT)).astype(np.float32),
    }
    before, sums = run(model, feeds)["y"], [node.op_type for node in model.graph].count("Add")
    assert fold_bias(model) == 1
    types = [node.op_type for node in model.graph]
    assert types.count("Add") == sums - 1
    assert ("MatMulIntegerToFloat" if "integers" in name else "Gemm") in types
    found = run(model, feeds)["y"]
    assert found.shape == before.shape
    assert np.abs(found - before).max() < 2e-6 * np.abs(before).max()


def learnt(b: Builder, x: ir.Value) -> ir.Value:
    """A bias that is fed."""
    bias = b.input("bias", [OUT], np.zeros(OUT))
    return b.op("Add", b.op("MatMul", x, b.weight("w", IN, OUT), shape=ROWS, name="p"), bias, shape=ROWS, name="s")


def read_twice(b: Builder, x: ir.Value) -> ir.Value:
    """A product that others read."""
    product = b.op("MatMul", x, b.weight("w", IN, OUT), shape=ROWS, name="p")
    total = b.op("Add", product, b.weight("b", OUT), shape=ROWS, name="s")
    return b.op("Mul", total, product, shape=ROWS, name="m")


def of_a_row(b: Builder, x: ir.Value) -> ir.Value:
    """A sum by position."""
    product = b.op("MatMul", x, b.weight("w", IN, OUT), shape=ROWS, name="p")
    return b.op("Add", product, b.weight("b", 3, OUT), shape=ROWS, name="s")


def of_two_values(b: Builder, x: ir.Value) -> ir.Value:
    """A product of two values that are computed or fed."""
    other = b.input("other", [IN, OUT])
    product = b.op("MatMul", x, other, shape=ROWS, name="p")
    return b.op("Add", product, b.weight("b", OUT), shape=ROWS, name="s")


@pytest.mark.parametrize("made", [learnt, read_twice, of_a_row, of_two_values])
def test_what_is_no_bias_of_one_layer_stays(made: Callable[[Builder, ir.Value], ir.Value]) -> None:
    """A bias that is fed, a product that others read, a sum by position, a product of two computed values."""
    b = Builder(2)
    model = b.model(y=b.op("Neg", made(b, b.input("x", [2, 3, IN])), shape=ROWS, name="n"))
    before = [node.op_type for node in model.graph]
    assert fold_bias(model) == 0
    assert [node.op_type for node in model.graph] == before
