"""The study as one page: the tables of the terminal, and plots of them."""

from __future__ import annotations

from collections.abc import Sequence

from console import report
from console.plots import Bar, Curve, Point, bars, curves, points
from console.table import percent, size
from export.study import table
from export.study.rows import Row, Share
from export.study.study import Study
from export.study.temperatures import AtTemperature

CURVES = {
    "total variation distance from fp32: draws differ at least so often, however they are coupled": "distance",
    "divergence from fp32, nats": "divergence_nats",
    "chance that a draw is that of fp32": "same_token",
    "perplexity": "perplexity",
}
READ = (
    "Each format was applied to the same graph, and the same items went through all of them. Intervals are those of "
    "Wilson at 95 %: formats whose intervals overlap are not told apart by so few items. Times are medians of calls "
    "in turns, with quartiles as whiskers, in one process with one thread; other machines rank formats otherwise."
)


def page(study: Study) -> str:
    """The whole page."""
    told = [(i, row) for i, row in enumerate(study.rows) if not row.reason]
    sections = [
        report.section("Formats", report.table(*table.main_table(study)), *map(report.text, table.remarks(study))),
        report.section("What bytes and time buy", *_bought(study, told)),
        report.section("Weights", *_weights(told)),
        report.section("Outputs", *_outputs(study, told)),
        report.section("Time of a call", *_times(told)),
    ]
    if any(row.quality.temperatures for _, row in told):
        sections.append(report.section("Sampling at a temperature", *_temperatures(study, told)))
    lead = " — ".join(table.lead(study).splitlines())
    options = ", ".join(f"{key} {value}" for key, value in vars(study.options).items() if value != {})
    notes = report.section("How to read it", report.text(READ), report.text(f"Session options: {options}."))
    return report.page(f"Formats of {study.model}", lead, [*sections, notes])


def _bought(study: Study, told: Sequence[tuple[int, Row]]) -> list[str]:
    """How far from fp32 each format is, over its bytes and over its time."""
    first = told[0][1]
    found = [(i, row, _apart(row)) for i, row in told[1:]]
    known = [(i, row, apart) for i, row, apart in found if apart is not None]
    what = {
        "decoder": "total variation distance of the next token from fp32",
        "classes": "share of items in another class than fp32",
        "features": "one less the mean cosine with fp32",
    }[study.kind]
    sizes = [Point(row.format, row.stored_bytes / max(1, first.stored_bytes), y, i) for i, row, y in known]
    parts = [points(f"{what}, over bytes", "bytes by those of fp32", sizes)]
    for rows, base in first.times.items():
        times = [Point(r.format, r.times[rows].median_s / base.median_s, y, i) for i, r, y in known if rows in r.times]
        parts.append(points(f"{what}, over time", f"time of a call of {_rows(rows)} by that of fp32", times))
    return parts


def _rows(rows: int) -> str:
    return f"{rows} row{'s' if rows > 1 else ''}"


def _apart(row: Row) -> float | None:
    quality = row.quality
    if quality.temperatures:
        return quality.temperatures[-1].distance
    if quality.cosine is not None:
        return 1 - quality.cosine
    return None if quality.agreement is None else 1 - quality.agreement.share


def _weights(told: Sequence[tuple[int, Row]]) -> list[str]:
    first = told[0][1].stored_bytes
    sizes = [
        Bar(row.format, row.stored_bytes, f"{size(row.stored_bytes)}, {percent(row.stored_bytes / first)}", colour=i)
        for i, row in told
    ]
    lost = [
        Bar(row.format, row.sqnr_db, table.decibels(row.sqnr_db), colour=i)
        for i, row in told
        if row.sqnr_db is not None
    ]
    return [bars("Bytes as stored", sizes, first), *([bars("SQNR of the weights that changed", lost)] if lost else [])]


def _outputs(study: Study, told: Sequence[tuple[int, Row]]) -> list[str]:
    first = study.rows[0].quality
    parts = []
    for title, name in (("Accuracy", "accuracy"), ("Agreement with fp32", "agreement")):
        shares = [(i, row.format, getattr(row.quality, name)) for i, row in told]
        found = [_share(label, share, i) for i, label, share in shares if share is not None]
        if found:
            parts.append(bars(title, found, first.accuracy.share if first.accuracy and name == "accuracy" else None))
    if first.perplexity is not None:
        known = [(i, row.format, row.quality.perplexity) for i, row in told if row.quality.perplexity is not None]
        rows = [Bar(label, value, table.number(value), colour=i) for i, label, value in known]
        parts.append(bars("Perplexity", rows, first.perplexity))
    if study.kind == "features":
        cosines = [(i, row.format, row.quality.cosine) for i, row in told if row.quality.cosine is not None]
        rows = [Bar(label, 1 - value, f"1 - {table.cosine(value)}", colour=i) for i, label, value in cosines]
        parts.append(bars("One less the mean cosine with fp32", rows))
    return parts


def _share(label: str, share: Share, colour: int) -> Bar:
    return Bar(label, share.share, table.share(share), share.interval, colour)


def _times(told: Sequence[tuple[int, Row]]) -> list[str]:
    first = told[0][1]
    parts = []
    for rows, base in first.times.items():
        timed = [(i, row.format, row.times[rows]) for i, row in told if rows in row.times]
        found = [
            Bar(
                label,
                1000 * t.median_s,
                f"{table.milliseconds(t)}, {table.ratio(t, base)} of fp32",
                (1000 * t.low_s, 1000 * t.high_s),
                i,
            )
            for i, label, t in timed
        ]
        parts.append(bars(_rows(rows), found, 1000 * base.median_s))
    return parts


def _temperatures(study: Study, told: Sequence[tuple[int, Row]]) -> list[str]:
    parts = []
    for (title, name), (heading, header, body) in zip(CURVES.items(), table.temperature_tables(study), strict=True):
        shown = [(i, row) for i, row in told if row.quality.temperatures and row.format in {line[0] for line in body}]
        series = [Curve(row.format, _values(row.quality.temperatures, name), i) for i, row in shown]
        parts += [report.heading(heading), curves(title, header[1:], series), report.table(header, body)]
    return parts


def _values(found: Sequence[AtTemperature], name: str) -> list[float]:
    return [float(getattr(at, name)) for at in found]
