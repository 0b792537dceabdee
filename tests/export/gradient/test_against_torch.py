"""Rules of operators on pictures against torch's autograd, on the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from export.gradient.backward import build_backward
from tests.export.gradient.harness import draw, parse, run, session

F = torch.nn.functional
NETS: dict[str, tuple[str, Callable[..., Any]]] = {
    "a spatial transformer": (
        (
            "(float[2,3,6,5] a, float[2,2,3] b) => (float[2,3,4,4] y) <int64[4] s = {2, 3, 4, 4}> "
            "{ p = AffineGrid(b, s) y = GridSample(a, p) }"
        ),
        lambda a, b: F.grid_sample(a, F.affine_grid(b, [2, 3, 4, 4], align_corners=False), align_corners=False),
    ),
    "one that keeps corners and borders": (
        (
            "(float[2,3,6,5] a, float[2,2,3] b) => (float[2,3,4,4] y) <int64[4] s = {2, 3, 4, 4}> "
            '{ p = AffineGrid<align_corners=1>(b, s) y = GridSample<align_corners=1, padding_mode="border">(a, p) }'
        ),
        lambda a, b: F.grid_sample(
            a, F.affine_grid(b, [2, 3, 4, 4], align_corners=True), padding_mode="border", align_corners=True
        ),
    ),
    "nearest pixels": (
        '(float[2,3,6,5] a, float[2,4,4,2] b) => (float[2,3,4,4] y) { y = GridSample<mode="nearest">(a, b) }',
        lambda a, b: F.grid_sample(a, b, mode="nearest", align_corners=False),
    ),
    "columns": (
        (
            "(float[2,12,6] a) => (float[2,2,5,6] y) <int64[2] s = {5, 6}, int64[2] k = {3, 2}> "
            "{ y = Col2Im<strides=[2,3], pads=[1,1,1,1], dilations=[1,2]>(a, s, k) }"
        ),
        lambda a: F.fold(a, (5, 6), (3, 2), dilation=(1, 2), padding=1, stride=(2, 3)),
    ),
    "what is left of a division": (
        "(float[4,3] a, float[3] p) => (float[4,3] y) { y = Mod<fmod=1>(a, p) }",
        torch.fmod,
    ),
    "the norm of all pixels": (
        "(float[2,3,4,5] a) => (float[2,3,1,1] y) { y = GlobalLpPool<p=3>(a) }",
        lambda a: (a.abs() ** 3).sum((2, 3), keepdim=True) ** (1 / 3),
    ),
    "channels of mean zero": (
        "(float[3,2,4,3] a) => (float[3,2,4,3] y) { y = MeanVarianceNormalization(a) }",
        lambda a: (a - a.mean((0, 2, 3), keepdim=True)) / a.std((0, 2, 3), correction=0, keepdim=True),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_torchs(name: str) -> None:
    """The backward graph gives, on the runtime, what torch's autograd finds in float64."""
    text, net = NETS[name]
    model = parse(text, "float")
    feeds = draw(model)
    wide = {n: torch.tensor(value.astype(np.float64), requires_grad=True) for n, value in feeds.items()}
    made = net(*wide.values())
    seed = np.random.default_rng(2).normal(size=made.shape).astype(np.float32)
    found = run(session(build_backward(model, wanted=list(feeds)), as_written=True), {**feeds, "grad.y": seed})

    true = torch.autograd.grad(made, list(wide.values()), torch.tensor(seed.astype(np.float64)))
    for given, expected in zip(feeds, true, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(found[f"grad.{given}"], expected.numpy(), rtol=0, atol=1e-5 * scale)
