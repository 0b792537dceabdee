"""Products in all forms that graphs have: every one of them exact, and near to what it was in float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from export.activations.dynamic import dynamic
from export.activations.oracle import check
from export.activations.static import static
from tests.export.activations.nets import drawn, operators, work
from tests.export.graphs import Builder
from tests.export.runtime import run, worst

Made = tuple[ir.Model, list[str]]


def one_axis() -> Made:
    """A convolution over one axis, with steps."""
    b = Builder(1)
    x = b.input("x", [2, 4, 10])
    return b.model(y=b.op("Conv", x, b.weight("w", 6, 4, 3), shape=[2, 6, 4], name="c", strides=[2])), ["w"]


def three_axes() -> Made:
    """A convolution over three axes, with a bias."""
    b = Builder(1)
    x, w, bias = b.input("x", [2, 4, 5, 5, 5]), b.weight("w", 6, 4, 3, 3, 3), b.weight("bias", 6)
    return b.model(y=b.op("Conv", x, w, bias, shape=[2, 6, 3, 3, 3], name="c")), ["w"]


def padded_before() -> Made:
    """Groups, and more padding before than behind."""
    b = Builder(1)
    x, w = b.input("x", [2, 4, 7, 7]), b.weight("w", 6, 2, 2, 2)
    settings = {"auto_pad": "SAME_LOWER", "strides": [2, 2], "group": 2}
    return b.model(y=b.op("Conv", x, w, shape=[2, 6, 4, 4], name="c", **settings)), ["w"]


def vector() -> Made:
    """A vector times a matrix."""
    b = Builder(1)
    return b.model(y=b.op("MatMul", b.input("x", [16]), b.weight("w", 16, 8), shape=[8], name="m")), ["w"]


def four_axes() -> Made:
    """Many axes before the rows."""
    b = Builder(1)
    x = b.input("x", [2, 3, 4, 16])
    return b.model(y=b.op("MatMul", x, b.weight("w", 16, 8), shape=[2, 3, 4, 8], name="m")), ["w"]


def shared() -> Made:
    """One weight twice; what is between is an output, too."""
    b = Builder(1)
    w = b.weight("w", 8, 8)
    h = b.op("MatMul", b.input("x", [3, 8]), w, shape=[3, 8], name="first")
    return b.model(y=b.op("MatMul", h, w, shape=[3, 8], name="second"), h=h), ["w"]


def read_twice() -> Made:
    """What a convolution makes is read by a Relu and by something else, and is an output."""
    b = Builder(1)
    c = b.op("Conv", b.input("x", [2, 4, 6, 6]), b.weight("w", 6, 4, 3, 3), shape=[2, 6, 4, 4], name="c")
    bent = b.op("Sigmoid", c, shape=[2, 6, 4, 4], name="s")
    return b.model(y=b.op("Relu", c, shape=[2, 6, 4, 4], name="r"), z=bent, c=c), ["w"]


def turned_between() -> Made:
    """A convolution, its pixels turned, and a product with their channels."""
    b = Builder(1)
    x, w, bias = b.input("x", [2, 4, 6, 6]), b.weight("w", 6, 4, 1, 1), b.weight("bias", 6)
    c = b.op("Conv", x, w, bias, shape=[2, 6, 6, 6], name="c")
    t = b.op("Transpose", c, shape=[2, 6, 6, 6], name="t", perm=[0, 2, 3, 1])
    return b.model(y=b.op("MatMul", t, b.weight("v", 6, 5), shape=[2, 6, 6, 5], name="m")), ["w", "v"]


def added() -> Made:
    """A bias on the left of its Add, and a product that is added to itself."""
    b = Builder(1)
    x = b.input("x", [3, 8])
    h = b.op("MatMul", x, b.weight("w", 8, 8), shape=[3, 8], name="h")
    two = b.op("MatMul", x, b.weight("v", 8, 8), shape=[3, 8], name="two")
    doubled = b.op("Add", two, two, shape=[3, 8], name="doubled")
    return b.model(y=b.op("Add", b.weight("bias", 8), h, shape=[3, 8], name="y"), z=doubled), ["w", "v"]


FORMS = (one_axis, three_axes, padded_before, vector, four_axes, shared, read_twice, turned_between, added)


@pytest.mark.parametrize("way", ["dynamic", "static"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_is_multiplied_exactly(form: Callable[[], Made], way: str, tmp_path: Path) -> None:
    """All weights are taken, every product is what numpy says, as written and optimized, and little is lost."""
    (model, names), folder = form(), work(tmp_path)
    shape = [dim for dim in model.graph.inputs[0].shape or () if isinstance(dim, int)]
    feeds = {"x": drawn(*shape)}
    if way == "dynamic":
        made, reports = dynamic(model, names, folder)
    else:
        made, reports = static(model, names, [feeds, {"x": drawn(*shape, seed=1)}], "minmax", folder)
    assert [(report.name, report.format, report.reason) for report in reports] == [
        (n, f"int8-{way}", "") for n in names
    ]
    assert check(made, feeds) < 0.01
    assert check(made, feeds, "extended") < 0.01
    exact, found = run(model, feeds), run(made, feeds)
    assert all(worst(found[name], value) < 0.03 for name, value in exact.items())


def test_a_bias_is_added_by_the_product(tmp_path: Path) -> None:
    """Only a vector of constants that nothing but the product is added to."""
    made, _ = dynamic(*added(), work(tmp_path))
    assert operators(made).count("Add") == 1
    assert sorted(len(node.inputs) for node in made.graph if node.op_type == "MatMulIntegerToFloat") == [6, 7]


def test_a_product_of_two_constants_is_left(tmp_path: Path) -> None:
    """It is computed once, and a tool would take the left factor for a weight."""
    b = Builder(1)
    x = b.input("x", [3, 8])
    fixed = b.op("MatMul", b.weight("k", 3, 8), b.weight("w", 8, 8), shape=[3, 8], name="m")
    model = b.model(y=b.op("Add", x, fixed, shape=[3, 8], name="y"))
    made, reports = static(model, ["w"], [{"x": drawn(3, 8)}], "minmax", work(tmp_path))
    assert reports[0].reason == "read as a factor of another constant in MatMul"
    assert operators(made) == ["MatMul", "Add"]
