"""What was found, as lines: means over seeds with the least and the most, and the gap that each method closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from console.table import table

Found = list[dict[str, Any]]
LOW, HIGH = "head-only", "centralised"


def of(found: Found, **wanted: Any) -> Found:
    """Those that have these values."""
    return [one for one in found if all(one[name] == value for name, value in wanted.items())]


def right(found: Found, task: str, split: str, name: str, head: str) -> Any:
    """Accuracies by seed, [seeds]."""
    own = sorted(of(found, task=task, split=split, name=name), key=lambda one: one["seed"])
    return np.array([one["accuracy"][head] for one in own])


def gaps(found: Found, task: str, split: str, name: str, head: str) -> Any:
    """Which share of the way from head-only to centralised a method goes: of the means, and its spread by seed."""
    low, high, own = (right(found, task, split, one, head) for one in (LOW, HIGH, name))
    return (own.mean() - low.mean()) / (high.mean() - low.mean()), (own - low) / (high - low)


def words(values: Any) -> str:
    """In per cent: the mean, and the least and the most.

    >>> words(np.array([0.5, 0.75]))
    '62.5 (50.0–75.0)'
    """
    return f"{100 * values.mean():.1f} ({100 * values.min():.1f}–{100 * values.max():.1f})"


def lines(found: Found, task: str, head: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a task under a head: a line per method, accuracy and gap per split."""
    own = of(found, task=task)
    splits = list(dict.fromkeys(one["split"] for one in own))
    names = list(dict.fromkeys(one["name"] for one in own))
    rows = []
    for name in names:
        row = [name]
        for split in splits:
            values = right(own, task, split, name, head)
            row.append(words(values))
            row.append("" if name in {LOW, HIGH, "alone"} else f"{100 * gaps(own, task, split, name, head)[0]:.0f}")
        rows.append(row)
    return ["method", *(cell for split in splits for cell in (split, "gap %"))], rows


def printed(found: Found, heads: Sequence[str]) -> str:
    """A table per task and head."""
    pieces = []
    for task in dict.fromkeys(one["task"] for one in found):
        for head in heads:
            header, rows = lines(found, task, head)
            pieces.append(f"{task}, head {head} re-summed\n{table(header, rows)}")
    return "\n\n".join(pieces)
