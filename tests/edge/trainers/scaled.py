"""A small net that was trained, then quantized to 4 bits: its scales are what a trainer may move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.blocks import quantize_blocks
from quant.codes import TABLES
from tests.edge.trainers.problems import Arrays, Problem

Float64 = NDArray[np.float64]
INPUTS, INNER, CLASSES, ROWS, BLOCK = 32, 32, 3, 96, 16


def scaled_net(kind: str, seed: int = 0) -> Problem:
    """Cross-entropy over scales; the rows' task is not quite the one that the weights were trained for.

    Args:
        kind: "int4" (blocks without zero points, so scales of either sign) or "nf4".
        seed: of all that is drawn.
    """
    drawn = np.random.default_rng(seed)
    x, labels = drawn.normal(size=(ROWS, INPUTS)), drawn.integers(0, CLASSES, ROWS)
    x += 2 * np.eye(CLASSES, INPUTS)[labels]
    w = {"a": drawn.normal(size=(INNER, INPUTS)) / 6, "b": drawn.normal(size=(CLASSES, INNER)) / 6}
    for _ in range(100):
        for name, g in _gradients(w, x, labels).items():
            w[name] = w[name] - 0.5 * g
    x = x + 1.2 * drawn.normal(size=INPUTS)  # boards see other conditions than whoever trained
    codes, start = _quantized(w, kind)

    def weights(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Float64]:
        return {n: (codes[n] * arrays[n].astype(np.float64)[..., None]).reshape(w[n].shape) for n in w}

    def loss(arrays: Arrays) -> float:
        return -float(np.mean(_forward(weights(arrays), x)[1][np.arange(ROWS), labels]))

    def gradient(arrays: Arrays) -> dict[str, Float64]:
        by_weight = _gradients(weights(arrays), x, labels)
        return {n: np.sum(g.reshape(codes[n].shape) * codes[n], axis=-1) for n, g in by_weight.items()}

    return Problem(start, loss, gradient, {"scales": ["a", "b"]})


def _quantized(w: Mapping[str, Float64], kind: str) -> tuple[dict[str, Float64], dict[str, NDArray[np.float32]]]:
    codes: dict[str, Float64] = {}
    scales: dict[str, NDArray[np.float32]] = {}
    for name, weight in w.items():
        blocks = weight.reshape(len(weight), -1, BLOCK)
        if kind == "int4":
            made = quantize_blocks(weight.astype(np.float32), 4, BLOCK)
            codes[name], scales[name] = made.q.astype(np.float64).reshape(blocks.shape) - 8, made.scale
        else:
            scales[name] = np.abs(blocks).max(axis=-1).astype(np.float32)
            table = TABLES["nf4"].astype(np.float64)
            codes[name] = table[np.abs((blocks / scales[name][..., None])[..., None] - table).argmin(axis=-1)]
    return codes, scales


def _forward(w: Mapping[str, Float64], x: Float64) -> tuple[Float64, Float64]:
    hidden = np.tanh(x @ w["a"].T)
    logits = hidden @ w["b"].T
    high = logits.max(axis=1, keepdims=True)
    return hidden, logits - high - np.log(np.exp(logits - high).sum(axis=1, keepdims=True))


def _gradients(w: Mapping[str, Float64], x: Float64, labels: NDArray[np.int64]) -> dict[str, Float64]:
    hidden, logs = _forward(w, x)
    above = (np.exp(logs) - np.eye(CLASSES)[labels]) / len(x)
    below = above @ w["b"] * (1 - hidden * hidden)
    return {"a": below.T @ x, "b": above.T @ hidden}
