"""Distances of distributions at temperatures, against the definitions in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from export.study import temperatures
from export.study.temperatures import Temperatures

VOCABULARY, POSITIONS = 11, 6


def drawn(seed: int) -> np.ndarray:
    """Logits float32 [positions, vocabulary]."""
    return (3 * np.random.default_rng(seed).standard_normal((POSITIONS, VOCABULARY))).astype(np.float32)


def softmax(logits: np.ndarray, t: float) -> list[float]:
    """Of one position, term by term."""
    powers = [math.exp((float(z) - float(max(logits))) / t) for z in logits]
    return [power / math.fsum(powers) for power in powers]


@pytest.mark.parametrize("block", [1, VOCABULARY * 4, 1 << 20])
def test_means_are_those_of_the_definitions(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two formats, two temperatures, in any blocks and calls."""
    monkeypatch.setattr(temperatures, "BLOCK_ENTRIES", block)
    first, got = drawn(0), {"a": drawn(1), "b": drawn(2)}
    targets = np.array([0, 3, 10, 5, 5, 1])
    sums = Temperatures(["a", "b"], [0.3, 1.0])
    sums.add(first[:4], {name: logits[:4] for name, logits in got.items()}, targets[:4])
    sums.add(first[4:], {name: logits[4:] for name, logits in got.items()}, targets[4:])
    for name, logits in got.items():
        for at in sums.of(name):
            pairs = [
                (softmax(p, at.temperature), softmax(q, at.temperature)) for p, q in zip(first, logits, strict=True)
            ]
            same = math.fsum(a * b for p, q in pairs for a, b in zip(p, q, strict=True))
            own = math.fsum(a * a for p, _ in pairs for a in p)
            apart = math.fsum(abs(a - b) / 2 for p, q in pairs for a, b in zip(p, q, strict=True))
            divergence = math.fsum(a * math.log(a / b) for p, q in pairs for a, b in zip(p, q, strict=True))
            entropy = -math.fsum(math.log(q[t]) for (_, q), t in zip(pairs, targets, strict=True))
            found = (at.same_token, at.same_token_of_fp32, at.distance, at.divergence_nats)
            assert found == pytest.approx([v / POSITIONS for v in (same, own, apart, divergence)], rel=1e-9)
            assert at.perplexity == pytest.approx(math.exp(entropy / POSITIONS), rel=1e-9)


def test_fp32_is_at_no_distance_from_itself() -> None:
    """Zero distance and divergence, and draws agree as often as its own."""
    sums = Temperatures(["fp32"], [0.1])
    sums.add(drawn(0), {"fp32": drawn(0)}, np.zeros(POSITIONS, np.int64))
    (at,) = sums.of("fp32")
    assert (at.distance, at.divergence_nats) == (0.0, 0.0)
    assert at.same_token == at.same_token_of_fp32


def test_sure_and_different_is_at_distance_one() -> None:
    """Logits that leave no doubt, on other tokens: draws never agree, and nothing overflows."""
    first, other = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32)
    first[0, 0], other[0, 1] = 3000.0, 3000.0
    sums = Temperatures(["a"], [0.5])
    sums.add(first, {"a": other}, np.array([0]))
    (at,) = sums.of("a")
    assert (at.distance, at.same_token, at.divergence_nats, at.perplexity) == (1.0, 0.0, 6000.0, math.inf)
