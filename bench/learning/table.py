"""What was found, as lines: means over seeds with the least and the most, and the gap that each method closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from console.table import table
from hub.aggregation.methods import METHODS

Found = list[dict[str, Any]]
LOW, HIGH, DEFAULT = "head-only", "centralised", "stacking"
LEAST_GAP = 0.01  # below it, it is within the spread of the seeds


def of(found: Found, **wanted: Any) -> Found:
    """Those that have these values."""
    return [one for one in found if all(one[name] == value for name, value in wanted.items())]


def right(found: Found, task: str, split: str, name: str, head: str) -> Any:
    """Accuracies by seed, [seeds]."""
    own = sorted(of(found, task=task, split=split, name=name), key=lambda one: one["seed"])
    return np.array([one["accuracy"][head] for one in own])


def gap(found: Found, task: str, split: str, name: str, head: str) -> float | None:
    """Which share of the way from head-only to centralised a method goes, of means; None where there is no way."""
    low, high, own = (right(found, task, split, one, head).mean() for one in (LOW, HIGH, name))
    return float((own - low) / (high - low)) if high - low >= LEAST_GAP else None


def _gap(found: Found, task: str, split: str, name: str, head: str) -> str:
    share = gap(found, task, split, name, head)
    return "-" if share is None else f"{100 * share:.0f}"


def better(found: Found, task: str, split: str, head: str) -> list[str]:
    """The methods whose worst seed is above the best one of the default."""
    names = dict.fromkeys(one["name"] for one in of(found, task=task, split=split))
    ours = right(found, task, split, DEFAULT, head).max()
    return [n for n in names if n in METHODS and right(found, task, split, n, head).min() > ours]


def verdicts(found: Found, task: str, head: str) -> list[list[str]]:
    """Of the default, split by split: the gap it closes, its share of centralised, and who is better."""
    rows = []
    for split in dict.fromkeys(one["split"] for one in of(found, task=task)):
        part = right(found, task, split, DEFAULT, head).mean() / right(found, task, split, HIGH, head).mean()
        names = ", ".join(better(found, task, split, head)) or "none"
        rows.append([split, _gap(found, task, split, DEFAULT, head), f"{100 * part:.1f}", names])
    return rows


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
            row.append("" if name in {LOW, HIGH, "alone"} else _gap(own, task, split, name, head))
        rows.append(row)
    return ["method", *(cell for split in splits for cell in (split, "gap %"))], rows


def printed(found: Found, heads: Sequence[str]) -> str:
    """A table per task and head."""
    pieces = []
    for task in dict.fromkeys(one["task"] for one in found):
        for head in heads:
            header, rows = lines(found, task, head)
            pieces.append(f"{task}, head {head} re-summed\n{table(header, rows)}")
            if of(found, task=task, name=DEFAULT):
                told = verdicts(found, task, head)
                pieces.append(f"{task}, {DEFAULT}\n{table(['split', 'gap %', 'of centralised %', 'better'], told)}")
    return "\n\n".join(pieces)
