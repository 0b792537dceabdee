from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from export.gradient.backward import build_backward
from tests.export.gradient.harness import Array, parse, run, session

NARROW = (
    '(T[2,3,6,6] x, T["r_0",27] a, T["r_0",4] b) => (T[4,72] y) '
    "<int64[4] window = {0, 3, 3, 3}, int64[2] flat = {-1, 72}> "
    "{ w = Reshape(a, window) n = Conv<pads=[1,1,1,1]>(x, w) t = Transpose<perm=[1,0,2,3]>(n) "
    "f = Flatten<axis=1>(t) c = Transpose(b) y = MatMul(c, f) }"
)


def _expected(feeds: dict[str, Array]) -> list[Array]:
    x, a, b = (torch.tensor(feeds[name], dtype=torch.float64, requires_grad=True) for name in "xab")
    narrow = torch.nn.functional.conv2d(x, a.reshape(-1, 3, 3, 3), padding=1)
    y = b.T @ narrow.transpose(0, 1).flatten(1)
    y.backward(torch.tensor(feeds["grad.y"], dtype=torch.float64))
    return [np.asarray(value.grad) for value in (x, a, b)]


@pytest.mark.parametrize("as_written", [True, False])
def test_a_slot_beside_a_convolution_takes_any_rank(*, as_written: bool) -> None:
    """One backward graph gives the gradients of torch at every rank, and zeros at rank 0, whatever memory held."""
    running = session(build_backward(parse(NARROW, "float"), wanted=["x", "a", "b"]), as_written=as_written)
    rng = np.random.default_rng(3)
    for rank in (4, 0, 1, 0):
        shapes = {"x": (2, 3, 6, 6), "a": (rank, 27), "b": (rank, 4), "grad.y": (4, 72)}
        feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        found = run(running, feeds)
        expected = _expected(feeds) if rank else [np.zeros(shapes[name]) for name in "xab"]
        for name, array in zip("xab", expected, strict=True):
            np.testing.assert_allclose(
                found[f"grad.{name}"], array, rtol=0, atol=1e-5 * max(1, np.abs(array).max(initial=0))
            )


def test_scattered_rows_meet() -> None:
    """Rows that are gathered many times get the sum of all their cotangents, on the runtime too."""
    text = "(T[3,64] a, int64[999] i) => (T[999,64] y) { y = Gather(a, i) }"
    rng = np.random.default_rng(0)
    index, g = rng.integers(-3, 3, 999), rng.normal(size=(999, 64)).astype(np.float32)
    expected = np.zeros((3, 64))
    np.add.at(expected, index, g)
    running = session(build_backward(parse(text, "float"), wanted=["a"]), as_written=True)
    found = run(running, {"a": np.zeros((3, 64), np.float32), "i": index, "grad.y": g})["grad.a"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_indices_beside_values_carry_no_gradient() -> None:
    """What is gathered at the places of the largest has a gradient, the places have none, and nothing is refused."""
    text = (
        "(T[3,6] x) => (T[3,2] y) <int64[1] k = {2}> "
        "{ v, i = TopK(x, k) z = GatherElements<axis=1>(x, i) y = Mul(v, z) }"
    )
    x = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    model: ir.Model = build_backward(parse(text, "float"), wanted=["x"])
    found = run(session(model, as_written=True), {"x": x, "grad.y": np.ones((3, 2), np.float32)})["grad.x"]
    largest = x >= np.sort(x, axis=1)[:, [-2]]
    np.testing.assert_allclose(found, np.where(largest, 2 * x, 0), rtol=1e-6)
