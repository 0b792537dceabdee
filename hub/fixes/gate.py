"""The gate of a fix: success, paraphrases, drawdown; what fails one of them is not sent out.

The three measures are those of Mitchell et al. (MEND), arXiv 2110.11309, section 2: edit success, its generality on
equivalent inputs, and the drawdown on others. Drawdown here counts calibration rows that were right and are wrong now,
with nothing taken off for rows that became right: the worst rank decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from console.errors import join
from console.table import percent
from wire.fixes import AtRank, Report


@dataclass(frozen=True)
class Bars:
    """What a fix was asked to do: the label, how many paraphrases there were, and the share of rows it may lose."""

    expect: str
    paraphrases: int
    drawdown: float


@dataclass(frozen=True)
class Decision:
    """What was decided and why."""

    passed: bool
    sentence: str


def decide(report: Report, bars: Bars) -> Decision:
    """Whether a fix may go out.

    >>> at = (AtRank(2, "b", True, 0.5, 0, 9, 1, 0),)
    >>> decide(Report(1, "r3-fix-server", 10, 0, False, at), Bars("a", 0, 0.001)).sentence
    'refused: drawdown: 1 of 10 calibration rows lost at rank 2 (10.0 %), the bar is 0.1 %'
    """
    if all(one.before == bars.expect for one in report.at):
        return Decision(False, f"refused: nothing to mend: the version in use answers {bars.expect!r} already")
    problems = [*_success(report, bars), *_paraphrases(report, bars), *_drawdown(report, bars)]
    if problems:
        return Decision(False, f"refused: {join(problems)}")
    return Decision(True, _passed(report, bars))


def drawdown(report: Report) -> float:
    """The share of calibration rows that were right and are wrong now, at the worst rank."""
    return max((one.lost for one in report.at), default=0) / max(1, report.rows)


def _success(report: Report, bars: Bars) -> list[str]:
    wrong = [one for one in report.at if not one.right]
    if not wrong:
        return []
    right = f"the input is {bars.expect!r} at {len(report.at) - len(wrong)} of {len(report.at)} ranks"
    return [f"success: {right} (not at {_ranks(wrong)}), the bar is all of them"]


def _paraphrases(report: Report, bars: Bars) -> list[str]:
    if report.paraphrases != bars.paraphrases:
        return [f"paraphrases: {report.paraphrases} were looked at, {bars.paraphrases} were given"]
    worst = min(report.at, key=lambda one: one.paraphrases_right)
    if worst.paraphrases_right == report.paraphrases:
        return []
    found = f"{worst.paraphrases_right} of {report.paraphrases} are {bars.expect!r} at rank {worst.rank}"
    return [f"paraphrases: {found}, the bar is all of them"]


def _drawdown(report: Report, bars: Bars) -> list[str]:
    if not report.rows:
        return ["drawdown: it is not known, since there were no calibration rows"]
    worst = max(report.at, key=lambda one: one.lost)
    if drawdown(report) <= bars.drawdown:
        return []
    lost = f"{worst.lost} of {report.rows} calibration rows lost at rank {worst.rank} ({percent(drawdown(report))})"
    return [f"drawdown: {lost}, the bar is {percent(bars.drawdown)}"]


def _passed(report: Report, bars: Bars) -> str:
    """The numbers of a fix that goes out."""
    lead = min(one.lead for one in report.at)
    success = f"success at {_ranks(report.at)} (leads by {lead:.2g})"
    told = "no paraphrases were given, so how far it reaches is not known"
    if report.paraphrases:
        fitted = ", which it was fitted to, so they do not show how far it reaches" if report.fitted else ""
        told = f"paraphrases {report.paraphrases} of {report.paraphrases} right{fitted}"
    lost = max(one.lost for one in report.at)
    kept = f"drawdown {lost} of {report.rows} calibration rows ({percent(drawdown(report))}, the bar is"
    return f"{success}; {told}; {kept} {percent(bars.drawdown)}, one row is {percent(1 / max(1, report.rows))})"


def _ranks(at: list[AtRank] | tuple[AtRank, ...]) -> str:
    return f"rank{'s' if len(at) > 1 else ''} {', '.join(str(one.rank) for one in at)}"
