"""What a run found: numbers with their conditions, and the judgement over them. JSON is its plain form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from console.table import mib, percent, table

ROUNDING = 1e-9  # of a difference of two shares: 0.85 - 0.75 is a little less than 0.10


@dataclass(frozen=True)
class BoardResult:
    """One board of the run. Sizes in bytes; accuracies on the common test set."""

    name: str
    rank: int
    rows: int
    classes: int
    segments: int
    budget_bytes: int
    predicted_bytes: int
    peak_bytes: int
    seconds_per_step: float
    bytes_up: int
    bytes_down: int
    alone: float


@dataclass(frozen=True)
class Check:
    """Something that must hold: what, whether it did, and the figures."""

    words: str
    held: bool
    figures: str = ""


@dataclass(frozen=True)
class Result:
    """The whole run."""

    scenario: str
    model: str
    boards: tuple[BoardResult, ...]
    joint: dict[int, float]  # by rank, of the released version
    candidate: dict[int, float]  # by rank, of the last version, released or not
    head_only: float
    centralised: float
    unadapted: float | None
    test_rows: int
    by_round: tuple[tuple[str, float], ...]  # (what happened, accuracy of the version it made)
    gate: str
    released: int
    invariants: tuple[Check, ...]
    learning: tuple[Check, ...]  # empty where learning is not judged
    seconds: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def best_alone(self) -> float:
        """The best board by itself."""
        return max(board.alone for board in self.boards)

    @property
    def joint_best(self) -> float:
        """The released version at its highest rank."""
        return self.joint[max(self.joint)]

    @property
    def failed(self) -> list[Check]:
        """Everything that did not hold."""
        return [c for c in (*self.invariants, *self.learning) if not c.held]


def interval(accuracy: float, rows: int) -> float:
    """Half the width of the 95 % interval of an accuracy over `rows` independent rows (Wald).

    >>> round(interval(0.8, 700), 4)
    0.0296
    """
    return 1.96 * math.sqrt(accuracy * (1 - accuracy) / max(1, rows))


def board_table(result: Result) -> tuple[list[str], list[list[object]]]:
    """Header and a row per board."""
    header = [
        "board", "rank", "rows", "segments", "budget", "peak", "s/step", "up", "down", "alone",
    ]  # fmt: skip
    rows: list[list[object]] = [
        [
            b.name,
            b.rank,
            b.rows,
            b.segments,
            mib(b.budget_bytes),
            mib(b.peak_bytes),
            f"{b.seconds_per_step:.2f}",
            mib(b.bytes_up),
            mib(b.bytes_down),
            percent(b.alone),
        ]
        for b in result.boards
    ]
    return header, rows


def model_table(result: Result) -> tuple[list[str], list[list[object]]]:
    """Header and a row per way to a model, all on the same test set."""
    rows: list[list[object]] = [["best board alone", "-", percent(result.best_alone)]]
    if result.unadapted is not None:
        rows.append(["un-adapted model", "-", percent(result.unadapted)])
    rows.append(["head only, no adapter", "-", percent(result.head_only)])
    rows += [
        [f"joint (version {result.released}, released)", rank, percent(a)] for rank, a in sorted(result.joint.items())
    ]
    if result.candidate != result.joint:
        rows += [["candidate (not released)", rank, percent(a)] for rank, a in sorted(result.candidate.items())]
    rows.append(["centralised", max(result.joint), percent(result.centralised)])
    return ["model", "rank", f"accuracy on {result.test_rows} rows"], rows


def as_text(result: Result) -> str:
    """Both tables, the gate's words, and what was checked."""
    lines = [table(*board_table(result)), "", table(*model_table(result)), "", f"gate: {result.gate}", ""]
    for check in (*result.invariants, *result.learning):
        mark = "held  " if check.held else "FAILED"
        lines.append(f"{mark} {check.words}" + (f" ({check.figures})" if check.figures else ""))
    return "\n".join(lines)


def judge(result: Result, joint_above_alone: float | None, joint_above_unadapted: float | None) -> tuple[Check, ...]:
    """Whether the fleet learned what it should on built-in data.

    Args:
        result: the run, without this judgement.
        joint_above_alone: points (as a share) above the best single board, or None.
        joint_above_unadapted: points above the model as it came, and beyond the interval above head-only, or None.
    """
    joint, width = result.joint_best, interval(result.head_only, result.test_rows)
    checks = []
    if joint_above_alone is not None:
        gain = joint - result.best_alone
        words = f"joint at least {100 * joint_above_alone:.0f} points above the best single board"
        checks.append(Check(words, gain >= joint_above_alone - ROUNDING, f"{100 * gain:+.1f} points"))
        gain = joint - result.head_only
        words = "joint not below head-only by more than the test set's 95 % interval"
        checks.append(Check(words, gain >= -width, f"{100 * gain:+.1f} points, interval {100 * width:.1f}"))
    if joint_above_unadapted is not None and result.unadapted is not None:
        gain = joint - result.unadapted
        words = f"joint at least {100 * joint_above_unadapted:.0f} points above the un-adapted model"
        checks.append(Check(words, gain >= joint_above_unadapted - ROUNDING, f"{100 * gain:+.1f} points"))
        gain = joint - result.head_only
        words = "joint above head-only by more than the test set's 95 % interval"
        checks.append(Check(words, gain > width, f"{100 * gain:+.1f} points, interval {100 * width:.1f}"))
    return tuple(checks)
