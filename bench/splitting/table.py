"""What was found, as lines: means over seeds with the least and the most, rounds to a target, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from console.table import table

Found = list[dict[str, Any]]
TARGET = "hetlora"  # whose last round is what rounds are counted to
BYTES = ("adapter_bytes", "crossing_bytes")
HEADER = ("method", "quality", "rounds to target", "faster", "adapters MiB", "crossing MiB", "plans")


def quality(task: str, pair: Sequence[float]) -> float:
    """Perplexity, or accuracy in per cent.

    >>> quality("sst2", (0.5, 0.75)), round(quality("e2e", (1.0, 0.5)), 3)
    (75.0, 2.718)
    """
    return float(np.exp(pair[0])) if task == "e2e" else 100 * float(pair[1])


def rounds_to(curve: Sequence[Sequence[float]], loss: float) -> int | None:
    """The first round, from 1, whose loss is at most so much; None where there is none.

    >>> rounds_to([(3.0, 0), (2.0, 0), (1.0, 0)], 2.5), rounds_to([(3.0, 0)], 1.0)
    (2, None)
    """
    return next((number for number, (own, _) in enumerate(curve, 1) if own <= loss), None)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, the least and the most.

    >>> spread([1.0, 2.0])
    '1.5 (1.0 to 2.0)'
    """
    mean, low, high = float(np.mean(values)), min(values), max(values)
    return f"{mean:.{digits}f}" if len(values) == 1 else f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lines(found: Found, task: str) -> list[list[str]]:
    """A line per method, nothing coded."""
    own = [one for one in found if one["task"] == task and one["coding"] == "float32"]
    target = {one["seed"]: one["curve"][-1][0] for one in own if one["method"] == TARGET}
    out = []
    for method in dict.fromkeys(one["method"] for one in own):
        runs = [one for one in own if one["method"] == method]
        needed = [rounds_to(one["curve"], target[one["seed"]]) if one["seed"] in target else None for one in runs]
        out.append(
            [method, spread([quality(task, one["test"]) for one in runs], 2), *_reached(needed, len(runs[0]["curve"]))]
        )
        out[-1] += [f"{np.mean([sum(one[what]) for one in runs]) / 2**20:.2f}" for what in BYTES]
        out[-1].append(f"{np.mean([one['plans'] for one in runs]):.1f}")
    return out


def _reached(needed: Sequence[int | None], total: int) -> list[str]:
    """Rounds to the target, of those seeds that reach it, and how many times fewer than all of them that is."""
    reached = [n for n in needed if n is not None]
    if not reached:
        return ["-", "-"]
    some = "" if len(reached) == len(needed) else f" ({len(reached)} of {len(needed)} seeds)"
    return [f"{np.mean(reached):.1f} of {total}{some}", "-" if some else f"{total / np.mean(reached):.2f}"]


def codings(found: Found, task: str) -> list[list[str]]:
    """What is lost by coding what crosses, of the planned method: quality, and bytes against float32."""
    own = [one for one in found if one["task"] == task and one["method"] == "planned"]
    whole = {one["seed"]: one for one in own if one["coding"] == "float32"}
    out = []
    for coding in dict.fromkeys(one["coding"] for one in own):
        runs = [one for one in own if one["coding"] == coding and one["seed"] in whole]
        pairs = [(quality(task, one["test"]), quality(task, whole[one["seed"]]["test"])) for one in runs]
        share = [sum(one["crossing_bytes"]) / sum(whole[one["seed"]]["crossing_bytes"]) for one in runs]
        out.append(
            [coding, spread([a for a, _ in pairs], 2), spread([a - b for a, b in pairs], 2), f"{np.mean(share):.3f}"]
        )
    return out


def printed(found: Found) -> str:
    """Tables of every task."""
    pieces = []
    for task in dict.fromkeys(one["task"] for one in found):
        what = "perplexity" if task == "e2e" else "accuracy %"
        pieces.append(f"{task}, {what} on test rows\n{table(HEADER, lines(found, task))}")
        told = codings(found, task)
        if len(told) > 1:
            pieces.append(f"{task}, what crosses\n{table(('coding', what, 'against float32', 'bytes'), told)}")
        planned = next((one for one in found if one["task"] == task and one["method"] == "planned"), None)
        if planned is not None:
            pieces.append(f"{task}: fronts of {', '.join(map(str, planned['borders']))} blocks")
    return "\n\n".join(pieces)
