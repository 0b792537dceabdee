"""Losses whose gradients are known: quadratics, and a small net, which torch checks (test_adam8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]


@dataclass
class Problem:
    """A loss in float64 over float32 arrays, its true gradient, and where to start."""

    start: dict[str, Array]
    loss: Callable[[Arrays], float]
    gradient: Callable[[Arrays], dict[str, NDArray[np.float64]]]
    units: dict[str, list[str]] = field(default_factory=dict)


def quadratic(entries: int = 400, seed: int = 0) -> Problem:
    """Half the sum of h (x - o)^2 over two arrays, with h over two decades."""
    drawn = np.random.default_rng(seed)
    half = entries // 2
    shapes = {"x": (half // 10, 10), "y": (entries - half,)}
    h = {n: 10 ** drawn.uniform(-1, 1, s) for n, s in shapes.items()}
    o = {n: drawn.normal(size=s) for n, s in shapes.items()}
    start = {n: np.zeros(s, np.float32) for n, s in shapes.items()}

    def loss(arrays: Arrays) -> float:
        return sum(float(0.5 * np.sum(h[n] * (arrays[n].astype(np.float64) - o[n]) ** 2)) for n in shapes)

    def gradient(arrays: Arrays) -> dict[str, NDArray[np.float64]]:
        return {n: h[n] * (arrays[n].astype(np.float64) - o[n]) for n in shapes}

    return Problem(start, loss, gradient, {"first": ["x"], "second": ["y"]})


def net(seed: int = 0, inner: int = 24) -> Problem:
    """Cross-entropy of a net of two layers over 64 rows of three classes, of which all weights are trained."""
    drawn = np.random.default_rng(seed)
    x, labels = drawn.normal(size=(64, 8)), drawn.integers(0, 3, 64)
    x += 1.5 * np.eye(3, 8)[labels]
    shapes = {"a": (8, inner), "a_bias": (inner,), "b": (inner, 3), "b_bias": (3,)}
    start = {n: (drawn.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for n, s in shapes.items()}

    def run(arrays: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is inside, and the classes' logarithms of probability."""
        w = {n: a.astype(np.float64) for n, a in arrays.items()}
        hidden = np.tanh(x @ w["a"] + w["a_bias"])
        logits = hidden @ w["b"] + w["b_bias"]
        high = logits.max(axis=1, keepdims=True)
        return hidden, logits - high - np.log(np.exp(logits - high).sum(axis=1, keepdims=True))

    def loss(arrays: Arrays) -> float:
        return -float(np.mean(run(arrays)[1][np.arange(64), labels]))

    def gradient(arrays: Arrays) -> dict[str, NDArray[np.float64]]:
        hidden, logs = run(arrays)
        above = (np.exp(logs) - np.eye(3)[labels]) / 64
        below = above @ arrays["b"].astype(np.float64).T * (1 - hidden * hidden)
        return {"a": x.T @ below, "a_bias": below.sum(axis=0), "b": hidden.T @ above, "b_bias": above.sum(axis=0)}

    return Problem(start, loss, gradient, {"lower": ["a", "a_bias"], "upper": ["b", "b_bias"]})


def flat(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """All entries, arrays in the order of their names."""
    return np.concatenate([arrays[n].astype(np.float64).ravel() for n in sorted(arrays)])


def same_bytes(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    """The same names, types, shapes and bytes."""
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )
