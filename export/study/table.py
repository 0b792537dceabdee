"""The study as tables for a terminal and a page, and as a mapping for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from console.table import percent, shown, size, table
from export.study.rows import Row, Share, Timing
from export.study.study import Study
from quant.variants import Decisions

Header = list[str]
Body = list[list[str]]

LISTED = 5  # items that changed their class


def words(study: Study) -> str:
    """Everything, for a terminal."""
    parts = [lead(study), table(*main_table(study))]
    if study.kind == "decoder":
        parts += [f"{title}\n{table(header, body)}" for title, header, body in temperature_tables(study)]
    return "\n\n".join([*parts, "\n".join(remarks(study))]).rstrip()


def lead(study: Study) -> str:
    """What was studied, on what, and where."""
    judged = f", {study.tokens} next tokens" if study.tokens else ""
    length = f", {study.sequence} tokens a call" if study.sequence else ""
    return (
        f"{shown(study.model)} ({study.task}) on {study.items} of {study.of_items} items of {shown(study.data)}"
        f"{judged}{length}\nmeasured on {study.machine}"
    )


def main_table(study: Study) -> tuple[Header, Body]:
    """A row per format. Columns that say nothing of this kind of model are not there."""
    first = study.rows[0]
    header, body = ["format", "take it", "bytes", "of fp32", "SQNR"], []
    header += [name for name, _ in _qualities(first, study)]
    counts = list(first.times)
    header += [f"{rows} row{'s' if rows > 1 else ''}" for rows in counts]
    header += [f"{rows} / fp32" for rows in counts]
    for row in study.rows:
        if row.reason:
            body.append([row.format, *["-"] * (len(header) - 1)])
            continue
        cells = [row.format, taken(row), size(row.stored_bytes), percent(row.stored_bytes / max(1, first.stored_bytes))]
        cells += [decibels(row.sqnr_db), *(cell for _, cell in _qualities(row, study))]
        cells += [milliseconds(row.times.get(rows)) for rows in counts]
        cells += [ratio(row.times.get(rows), first.times.get(rows)) for rows in counts]
        body.append(cells)
    return header, body


def _qualities(row: Row, study: Study) -> list[tuple[str, str]]:
    """Names and cells of what was judged."""
    quality, labelled = row.quality, study.rows[0].quality.accuracy is not None
    if study.kind == "decoder":
        return [("perplexity", number(quality.perplexity)), ("same next token", share(quality.agreement))]
    if study.kind == "features":
        told = [("cosine", cosine(quality.cosine)), ("least cosine", cosine(quality.least_cosine))]
    else:
        told = [("same class", share(quality.agreement))]
    return [("accuracy", share(quality.accuracy)), *told] if labelled else told


def temperature_tables(study: Study) -> list[tuple[str, Header, Body]]:
    """A table per question that sampling asks; a row per format, a column per temperature."""
    told = [row for row in study.rows if row.quality.temperatures]
    if not told:
        return []
    ticks = [f"{at.temperature:g}" for at in told[0].quality.temperatures]
    others = [row for row in told if row is not study.rows[0]]

    def of(rows: Sequence[Row], name: str) -> Body:
        return [[row.format, *(number(getattr(at, name)) for at in row.quality.temperatures)] for row in rows]

    header = ["temperature", *ticks]
    return [
        ("total variation distance from fp32", header, of(others, "distance")),
        ("divergence from fp32, nats", header, of(others, "divergence_nats")),
        ("chance that a draw is that of fp32", header, of(told, "same_token")),
        ("perplexity", header, of(told, "perplexity")),
    ]


def remarks(study: Study) -> list[str]:
    """Sentences: formats that were not measured, what is no number, and what the rest means."""
    told = [f"{row.format}: {row.reason}" for row in study.rows if row.reason]
    told += [
        f"{row.format}: NaN or infinity in {row.quality.not_numbers} of its outputs"
        for row in study.rows
        if row.quality.not_numbers
    ]
    told += [
        f"{row.format}: weights {', '.join(f'{count} in {name}' for name, count in row.weights.items())}"
        + (f"; worst {shown(row.worst[0])} at {decibels(row.worst[1])}" if row.worst else "")
        for row in study.rows[1:]
        if not row.reason
    ]
    told += [decided_words(row.format, row.quality.decided) for row in study.rows if row.quality.decided is not None]
    return [*told, *study.remarks]


def decided_words(name: str, found: Decisions) -> str:
    """Margins of a format beside fp32, and the items that it puts into another class.

    >>> from quant.variants import decisions
    >>> decided_words("int4", decisions([[2.0, 0.0], [0.5, 0.0]], [[1.5, 0.0], [0.0, 0.25]]))
    'int4: median margin 0.875, 1.25 in fp32; in another class: item 1 (0 to 1, margin 0.5 in fp32)'
    """
    middle = found.quantiles.index(0.5)
    margins = f"median margin {found.variant_margins[middle]:.4g}, {found.exact_margins[middle]:.4g} in fp32"
    if not found.flips:
        return f"{name}: {margins}; no item in another class"
    listed = [
        f"item {f.sample} ({f.exact_class} to {f.variant_class}, margin {f.exact_margin:.2g} in fp32)"
        for f in found.flips[:LISTED]
    ]
    more = f", and {len(found.flips) - LISTED} more" if len(found.flips) > LISTED else ""
    return f"{name}: {margins}; in another class: {', '.join(listed)}{more}"


def as_json(study: Study) -> dict[str, Any]:
    """Everything; sizes in bytes, times in seconds. What is infinite is a text, since JSON has no such number."""
    told: dict[str, Any] = _plain({**asdict(study), "rows": [_row(row, study.rows[0]) for row in study.rows]})
    return told


def _row(row: Row, first: Row) -> dict[str, Any]:
    found = asdict(row)
    for name in ("accuracy", "agreement"):
        share = getattr(row.quality, name)
        if share is not None:
            found["quality"][name] |= {"share": share.share, "interval95": list(share.interval)}
    for rows, timing in row.times.items():
        found["times"][rows] |= {"of_fp32": timing.median_s / first.times[rows].median_s}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def share(found: Share | None) -> str:
    """A share with its 95 % interval.

    >>> share(Share(8, 10))
    '80.0 % (49.0 to 94.3)'
    """
    if found is None or not found.of:
        return "-"
    low, high = (100 * end for end in found.interval)
    return f"{percent(found.share)} ({low:.1f} to {high:.1f})"


def taken(row: Row) -> str:
    """How many of the weights of two dimensions or more have the format itself, not one instead of it."""
    return f"{row.weights.get(row.format.partition('+')[0], 0)} of {sum(row.weights.values())}"


def decibels(sqnr_db: float | None) -> str:
    """An SQNR; what loses nothing has none that is a number.

    >>> decibels(20.04), decibels(float("inf")), decibels(None)
    ('20.0 dB', 'exact', '-')
    """
    if sqnr_db is None:
        return "-"
    return "exact" if sqnr_db == math.inf else f"{sqnr_db:.1f} dB"


def number(value: float | None) -> str:
    """Four digits.

    >>> number(12.3456), number(0.000123456), number(None)
    ('12.35', '0.0001235', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def cosine(value: float | None) -> str:
    """As far as it is from 1, which is all that matters."""
    return "-" if value is None else f"{value:.6f}"


def milliseconds(timing: Timing | None) -> str:
    """The median of a call."""
    return "-" if timing is None else f"{1000 * timing.median_s:.3g} ms"


def ratio(timing: Timing | None, first: Timing | None) -> str:
    """A time by that of fp32."""
    return "-" if timing is None or first is None else f"{timing.median_s / first.median_s:.2f}"
