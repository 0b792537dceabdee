"""What variants took beside torch + PEFT, as ratios, and which bars that meets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.training.children import Taken
from console.table import mib

THEIRS = "torch + PEFT"
PEAK, ABOVE = 0.3, 0.75  # DESIGN's bars: of the process, and of what it takes above its imports
MICRO_PEAK, MICRO_ABOVE = 0.2, 0.4
TIME, ROUNDED_TIME = 1.15, 0.9
HEADER = (
    "variant",
    "peak",
    "ratio",
    "above imports",
    "ratio",
    "anonymous",
    "ms",
    "ratio",
    "rounds",
    "elapsed",
    "loss",
)


@dataclass(frozen=True)
class Ratios:
    """Ours over theirs: of peaks, of what is above the imports, of times round by round (the median, and its ends).

    `wall` is the ratio of elapsed times, which other processes on the machine blur.
    """

    peak: float
    above: float
    time: float
    time_least: float
    time_most: float
    wall: float


def ratios(ours: Taken, theirs: Taken) -> Ratios:
    """Medians over medians; times of each round, in which both took turns, over each other first."""
    times = [statistics.median(a) / statistics.median(b) for a, b in zip(ours.cpu_s, theirs.cpu_s, strict=True)]
    walls = [statistics.median(a) / statistics.median(b) for a, b in zip(ours.wall_s, theirs.wall_s, strict=True)]
    return Ratios(
        peak=ours.median("peak_bytes") / theirs.median("peak_bytes"),
        above=ours.above_imports_bytes / theirs.above_imports_bytes,
        time=statistics.median(times),
        time_least=min(times),
        time_most=max(times),
        wall=statistics.median(walls),
    )


@dataclass(frozen=True)
class Bar:
    """What was to hold of a variant, and what was found."""

    variant: str
    what: str
    most: float
    found: float

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.found <= self.most


def bars(name: str, quant: str, micro: bool, found: Ratios) -> Iterator[Bar]:
    """The bars of a variant; fp32 is shown beside them and has none.

    Args:
        name: of the variant.
        quant: "int8", "int8a" with rounded activations in the forward half, or "fp32".
        micro: whether the batch is cut.
        found: its ratios.
    """
    if quant == "fp32":
        return
    yield Bar(name, "peak of the process", MICRO_PEAK if micro else PEAK, found.peak)
    yield Bar(name, "above the imports", MICRO_ABOVE if micro else ABOVE, found.above)
    yield Bar(name, "time of a step", ROUNDED_TIME if quant == "int8a" else TIME, found.time)


def cells(name: str, taken: Taken, found: Ratios | None) -> list[str]:
    """A row of the table; without ratios that of torch."""
    shown = ["1", "1", "1", "", "1"]
    if found is not None:
        shown = [f"{found.peak:.3f}", f"{found.above:.3f}", f"{found.time:.2f}"]
        shown += [f"{found.time_least:.2f} to {found.time_most:.2f}", f"{found.wall:.2f}"]
    peak, above, time, spread, wall = shown
    anonymous, ms = mib(taken.median("peak_anon_bytes")), f"{1000 * taken.cpu_median_s:.0f}"
    row = [name, mib(taken.median("peak_bytes")), peak, mib(taken.above_imports_bytes), above, anonymous, ms, time]
    return [*row, spread, wall, f"{taken.losses[0]:.3f} to {taken.losses[-1]:.3f}"]


def as_json(
    case: str, taken: Mapping[str, Taken], found: Mapping[str, Ratios], judged: Sequence[Bar]
) -> dict[str, Any]:
    """One case for the file: what was measured, ratios, bars."""
    return {
        "case": case,
        "measured": {name: asdict(one) for name, one in taken.items()},
        "ratios": {name: asdict(one) for name, one in found.items()},
        "bars": [{**asdict(bar), "met": bar.met} for bar in judged],
    }
