"""What is measured of all variants of a model, and which bars that meets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.quantized.case import ROWS, Case
from bench.quantized.variant import Memory, Variant

AS_FAST = 1.05  # what two runs of the same graph differ by
ANONYMOUS = 1.2  # times the weights, at load, above the runtime
THEIRS = ("onnxruntime dynamic", "onnxruntime 4 bits", "optimum dynamic")
MOST_TURNS_S = 20.0  # of one number of rows


@dataclass
class Found:
    """One variant."""

    model: str
    name: str
    family: str
    file_bytes: int = 0
    memory: Memory | None = None
    milliseconds: dict[int, float] = field(default_factory=dict)
    score: dict[str, float] = field(default_factory=dict)
    reason: str = ""  # why there is nothing

    def mapping(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def timed(case: Case, variants: Sequence[Variant], turns: int) -> dict[str, dict[int, float]]:
    """Median milliseconds of the processor by name and rows; all run in turns, the first of which is not counted."""
    out: dict[str, dict[int, float]] = {variant.name: {} for variant in variants}
    for rows in ROWS:
        fed = case.feeds(rows)
        runs = {variant.name: variant.run(rows) for variant in variants}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        started = time.perf_counter()
        for turn in range(turns + 1):
            for name, run in runs.items():
                began = time.process_time()
                run(fed)
                taken[name].append(1000 * (time.process_time() - began))
            if turn > 2 and time.perf_counter() - started > MOST_TURNS_S:
                break
        for name, values in taken.items():
            out[name][rows] = statistics.median(values[1:])
    return out


@dataclass(frozen=True)
class Bar:
    """What was to hold, and whether it does."""

    model: str
    what: str
    met: bool
    shown: str


def bars(case: Case, found: Sequence[Found], runtime: Memory) -> Iterator[Bar]:
    """All bars of a model."""
    ours = [one for one in found if one.family == "ours" and not one.reason]
    theirs = {one.name: one for one in found if one.name in THEIRS and not one.reason}
    for name, other in theirs.items():
        yield from _beside(case, [one for one in ours if case.as_good(one.score, other.score)], name, other)
    for one in ours:
        if one.memory is not None:
            yield _anonymous(one, one.memory, runtime)


def _beside(case: Case, equal: Sequence[Found], name: str, other: Found) -> Iterator[Bar]:
    """Ours that are as good: never slower, and smaller."""
    if not equal:
        yield Bar(case.name, f"as good as {name}", met=False, shown="none of ours is")
        return
    for rows in ROWS:
        fastest = min(equal, key=lambda one: one.milliseconds[rows])
        pair = _pair(fastest.milliseconds[rows], other.milliseconds[rows], "ms")
        met = _not_slower(fastest, other, rows)
        yield Bar(case.name, f"not slower than {name}, {rows} rows", met, f"{fastest.name}: {pair}")
        both = [one for one in equal if _not_slower(one, other, rows) and one.file_bytes < other.file_bytes]
        names = ", ".join(one.name for one in both) or "none of ours"
        yield Bar(case.name, f"smaller and not slower than {name}, {rows} rows", bool(both), names)
    smallest = min(equal, key=lambda one: one.file_bytes)
    sizes = _pair(smallest.file_bytes / 2**20, other.file_bytes / 2**20, "MiB")
    yield Bar(case.name, f"smaller than {name}", smallest.file_bytes < other.file_bytes, f"{smallest.name}: {sizes}")


def _not_slower(one: Found, other: Found, rows: int) -> bool:
    return one.milliseconds[rows] <= AS_FAST * other.milliseconds[rows]


def _anonymous(one: Found, memory: Memory, runtime: Memory) -> Bar:
    taken = memory.loaded_anon_bytes - runtime.loaded_anon_bytes
    shown = _pair(taken / 2**20, one.file_bytes / 2**20, "MiB")
    met = taken <= ANONYMOUS * one.file_bytes
    return Bar(one.model, f"{one.name}: anonymous at load at most {ANONYMOUS} x the weights", met, shown)


def _pair(ours: float, theirs: float, unit: str) -> str:
    """Two numbers of a bar.

    >>> _pair(1.0, 2.0, "ms")
    '1.00 to 2.00 ms'
    """
    return f"{ours:.2f} to {theirs:.2f} {unit}"


def cells(one: Found, measures: Sequence[str]) -> list[str]:
    """A row of the table."""
    memory = one.memory
    anonymous = "-" if memory is None else f"{memory.peak_anon_bytes / 2**20:.1f}"
    peak = "-" if memory is None else f"{memory.peak_bytes / 2**20:.1f}"
    times = [f"{one.milliseconds[rows]:.2f}" for rows in ROWS]
    score = ", ".join(f"{one.score[name]:.4g}" for name in measures)
    loaded = "-" if memory is None else f"{memory.loaded_anon_bytes / 2**20:.1f}"
    return [one.model, one.name, f"{one.file_bytes / 2**20:.2f}", peak, anonymous, loaded, *times, score]
