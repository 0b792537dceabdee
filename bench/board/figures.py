"""What processes of one kind took, as one row of a table: medians of them, and ratios to inference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.table import mib

HEADER = (
    "bundle",
    "way",
    "segments",
    "batch",
    "learn",
    "peak",
    "of budget",
    "anonymous",
    "PSS",
    "/ inference",
    "s a step",
    "opening",
    "/ inference",
    "files opened",
    "loss",
)

MEMORY = ("peak_bytes", "anon_bytes", "pss_bytes")


@dataclass(frozen=True)
class Figures:
    """A way to use a bundle.

    Attributes:
        bundle: its name.
        way: inference or a trainer.
        segments: of the bundle.
        micro_batch: rows of a run.
        learned: numbers that learn.
        budget_bytes: of the worker.
        peak_bytes: VmHWM, runtime and all.
        anon_bytes: the largest RssAnon.
        pss_bytes: after the last step.
        step_s: of the processor, for a step that is not a process's first.
        wall_s: the same of the clock.
        opening_s: of that, the opening of sessions.
        opened_bytes: files of the sessions that such a step opens.
        losses: of the steps of a process.
    """

    bundle: str
    way: str
    segments: int
    micro_batch: int
    learned: int
    budget_bytes: int
    peak_bytes: int
    anon_bytes: int
    pss_bytes: int
    step_s: float
    wall_s: float
    opening_s: float
    opened_bytes: int
    losses: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the whole process stayed within the budget."""
        return self.peak_bytes <= self.budget_bytes


def figures_of(bundle: str, way: str, budget_bytes: int, found: Sequence[Mapping[str, Any]]) -> Figures:
    """One row from what processes said; the largest of their memory, medians of their later steps."""
    later = [step for one in found for step in one["steps"][1:]] or [found[0]["steps"][0]]
    first, most = found[0], {name: max(one[name] for one in found) for name in MEMORY}
    return Figures(
        bundle,
        way,
        first["segments"],
        first["micro_batch"],
        first["learned"],
        budget_bytes,
        **most,
        step_s=statistics.median(step["seconds"] for step in later),
        wall_s=statistics.median(step["wall_s"] for step in later),
        opening_s=statistics.median(step["opening_s"] for step in later),
        opened_bytes=max(step["opened_bytes"] for step in later),
        losses=tuple(step["loss"] for step in first["steps"]),
    )


def ratios(one: Figures, every: Sequence[Figures]) -> tuple[float, float] | None:
    """Peak and seconds of a step over those of inference with the same bundle; None where that was not measured."""
    base = next((f for f in every if (f.bundle, f.way) == (one.bundle, "inference")), None)
    return None if base is None else (one.peak_bytes / base.peak_bytes, one.step_s / base.step_s)


def cells(one: Figures, every: Sequence[Figures]) -> list[str]:
    """A row of the table under `HEADER`."""
    found = ratios(one, every)
    memory, seconds = ("-", "-") if found is None else (f"{found[0]:.2f}", f"{found[1]:.1f}")
    learned = "-" if one.way == "inference" else f"{one.learned:,}"
    losses = f"{one.losses[0]:.3f}" if one.way == "inference" else f"{one.losses[0]:.3f} to {one.losses[-1]:.3f}"
    return [
        one.bundle,
        one.way,
        str(one.segments),
        str(one.micro_batch),
        learned,
        mib(one.peak_bytes),
        f"{one.peak_bytes / one.budget_bytes:.0%} of {mib(one.budget_bytes)}" + ("" if one.holds else ", MISSED"),
        mib(one.anon_bytes),
        mib(one.pss_bytes),
        memory,
        f"{one.step_s:.2f}",
        f"{one.opening_s:.2f}",
        seconds,
        mib(one.opened_bytes),
        losses,
    ]


def as_json(one: Figures, every: Sequence[Figures]) -> dict[str, Any]:
    """Everything of a row."""
    found = ratios(one, every)
    own = {name: getattr(one, name) for name in Figures.__dataclass_fields__}
    memory, seconds = (None, None) if found is None else found
    return {**own, "losses": list(one.losses), "holds": one.holds, "peak_ratio": memory, "time_ratio": seconds}
