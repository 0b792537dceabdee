"""Whether importance moved enough that a plan made by it should be made again (HSplitLoRA, arXiv 2505.02795).

What counts is how it is shared out: gradients shrink as a model learns, and no rank changes by that.
"""

from __future__ import annotations

from collections.abc import Mapping

THRESHOLD = 0.1


def shares(scores: Mapping[str, float]) -> dict[str, float]:
    """Each score as a share of all; all are equal where they are all 0.

    >>> shares({"a": 3.0, "b": 1.0})
    {'a': 0.75, 'b': 0.25}
    """
    total = sum(scores.values())
    return {name: value / total if total > 0 else 1 / len(scores) for name, value in scores.items()}


def moved(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """How much of the whole lies elsewhere: half the sum of the differences of shares, 0 to 1, over what both know.

    >>> moved({"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0})
    0.25
    >>> moved({"a": 1.0}, {"b": 1.0})
    0.0
    """
    common = sorted(before.keys() & now.keys())
    old, new = (shares({name: scores[name] for name in common}) for scores in (before, now))
    return sum(abs(old[name] - new[name]) for name in common) / 2


def beyond(before: Mapping[str, float], now: Mapping[str, float], threshold: float = THRESHOLD) -> bool:
    """Whether importance moved by more than a threshold.

    >>> beyond({"a": 3.0, "b": 1.0}, {"a": 30.0, "b": 10.0})
    False
    """
    return moved(before, now) > threshold
