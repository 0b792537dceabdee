"""What a board says of its slots beside its update: a number each, as text in the metadata of the adapter file.

    s_j = sum over directions i of (mean |A_i * dL/dA_i| + mean |B_i * dL/dB_i|)

with A [in, r] and B [r, out] of slot j: HSplitLoRA's product (arXiv 2505.02795) on what is trained, since the gradient
of the weight itself is nowhere on a board. The sum is over directions, and not the mean: a direction that carries
nothing (B_i = 0) adds nothing then, so that boards of unequal ranks compare.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.json_text import parse_json

KEY = "importance"  # of the metadata
MOST_SLOTS, MOST_BYTES = 2048, 128 << 10
LARGEST = 1e12
Array = NDArray[Any]


def sensitivity(a: Array, a_gradient: Array, b: Array, b_gradient: Array) -> float:
    """s of one slot, from its factors A [in, r] and B [r, out] and their gradients.

    >>> one = np.ones((2, 1)), np.full((2, 1), -0.5), np.ones((1, 4)), np.full((1, 4), 0.25)
    >>> sensitivity(*one)
    0.75
    """
    of_a = np.abs(a.astype(np.float64) * a_gradient).mean(axis=0)
    of_b = np.abs(b.astype(np.float64) * b_gradient).mean(axis=1)
    return float((of_a + of_b).sum())


def text_of(told: Mapping[str, float]) -> str:
    """As metadata of an adapter file: four digits each, of the largest `MOST_SLOTS` where there are more.

    >>> text_of({"b": 0.123456, "a": 2.0, "c": float("inf")})
    '{"a":2.0,"b":0.1235}'
    """
    known = {name: value for name, value in told.items() if math.isfinite(value) and 0 <= value <= LARGEST}
    kept = sorted(sorted(known, key=lambda name: (-known[name], name))[:MOST_SLOTS])
    text = json.dumps({name: float(f"{known[name]:.4g}") for name in kept}, separators=(",", ":"))
    return text if len(text) <= MOST_BYTES else ""


def read_told(text: str, where: str) -> dict[str, float]:
    """What a board said; nothing where it said nothing.

    Raises:
        BadData: it is not what `text_of` writes.
    """
    if not text:
        return {}
    if len(text) > MOST_BYTES:
        raise BadData(f"expected at most {MOST_BYTES} characters of importance from {where}, found {len(text)}")
    try:
        found = parse_json(text)
    except ValueError as error:
        raise BadData(
            f"expected importance as JSON from {where}, found something else ({error}); it was ignored"
        ) from error
    if not isinstance(found, dict) or len(found) > MOST_SLOTS or not all(_sound(value) for value in found.values()):
        raise BadData(f"expected a number of at least 0 for at most {MOST_SLOTS} slots from {where}; it was ignored")
    return {name: float(value) for name, value in found.items()}


def _sound(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def mean_over_steps(steps: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each slot over the steps that measured it with a finite result.

    >>> mean_over_steps([{"a": 1.0}, {"a": 3.0, "b": 2.0}, {"a": float("nan")}])
    {'a': 2.0, 'b': 2.0}
    """
    found: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.items():
            if math.isfinite(value):
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
