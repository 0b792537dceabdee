"""A session as one HTML page: its curves, its numbers, and what it says about itself."""

from __future__ import annotations

from collections.abc import Sequence

from console import report
from console.plots import Curve, curves
from edge.training.history import Session

TICKS = 16


def page(title: str, session: Session, facts: Sequence[tuple[str, str]], sentences: Sequence[str]) -> str:
    """The page.

    Args:
        title: what was trained.
        session: where it ended.
        facts: names and values, in order.
        sentences: what the run said: choices, admissions, warnings.
    """
    sections = [report.section("What was done", report.names(list(facts)))]
    if sentences:
        sections.append(report.section("Why", *(report.text(words) for words in sentences)))
    sections.append(report.section("Loss", losses(session)))
    if session.looks:
        sections.append(report.section("Rows kept back", shares(session), looks(session)))
    if session.undone:
        rows = [(one.step, f"{one.rate:g}", one.reason) for one in session.undone]
        sections.append(report.section("Steps undone", report.table(("step", "rate then", "why"), rows)))
    lead = f"{session.at} steps, {session.seconds:.1f} s in steps; {session.over or 'not ended'}"
    return report.page(title, lead, sections)


def losses(session: Session) -> str:
    """The mean loss of steps, and on the rows kept back, over steps."""
    ends = _ends(session)
    series = [Curve("steps", _means([(one.step, one.loss) for one in session.losses], ends))]
    if session.looks:
        series.append(Curve("kept back", _means([(look.step, look.score.loss) for look in session.looks], ends), 1))
    return curves("mean loss by step", [str(end) for end in ends], series)


def shares(session: Session) -> str:
    """Right rows among those kept back, in percent, over looks."""
    ticks = [str(look.step) for look in session.looks]
    values = [100 * look.score.share for look in session.looks]
    step = max(1, len(ticks) // TICKS)
    shown = [tick if i % step == 0 else "" for i, tick in enumerate(ticks)]
    return curves("right among the rows kept back, in percent", shown, [Curve("right", values, 2)])


def looks(session: Session) -> str:
    """Every look as a row of a table."""
    rows = [
        (look.step, f"{look.score.loss:.4f}", f"{100 * look.score.share:.1f} %", look.score.rows)
        for look in session.looks
    ]
    best = min(range(len(rows)), key=lambda i: session.looks[i].score.loss)
    return report.table(("step", "loss", "right", "rows"), rows, strong=[best])


def _ends(session: Session) -> list[int]:
    """The last step of every stretch that is one point of a curve."""
    most = max(session.at, 1)
    count = min(most, TICKS)
    return [most * (i + 1) // count for i in range(count)]


def _means(points: Sequence[tuple[int, float]], ends: Sequence[int]) -> list[float]:
    """The mean of the points of each stretch; no number where there is none."""
    found, low = [], -1
    for end in ends:
        inside = [value for step, value in points if low < step <= end]
        found.append(sum(inside) / len(inside) if inside else float("nan"))
        low = end
    return found
