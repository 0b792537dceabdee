"""Plots as SVG: bars with intervals, curves over ticks, points over an axis. Labels are text and escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from console.report import PARTS

WIDTH, LEFT, RIGHT = 800, 150, 600  # of bars; what stands right of them is their value
STEP, BAR = 26, 18
HEIGHT, TOP, BOTTOM = 300, 20, 256  # of curves
AXIS, END = 90, 640
LINE, NAME = 15, 110  # between labels, and how wide they are


@dataclass(frozen=True)
class Bar:
    """A value with what is to be said of it, perhaps an interval, and a colour by number."""

    label: str
    value: float
    said: str
    interval: tuple[float, float] | None = None
    colour: int = 0


def bars(title: str, rows: Sequence[Bar], level: float | None = None) -> str:
    """A bar per row from zero, whiskers for intervals, and a dashed line through all at `level`."""
    ends = [end for row in rows for end in (row.value, *(row.interval or ())) if math.isfinite(end)]
    scale = (RIGHT - LEFT) / (1.02 * max([*ends, level or 0.0, 1e-12]))
    parts = [part for i, row in enumerate(rows) for part in _bar(row, 8 + STEP * i, scale)]
    if level is not None:
        x = LEFT + level * scale
        parts.append(_line(x, x, 2, 8 + STEP * len(rows), "var(--ink)", "stroke-dasharray='5 4'"))
    return _svg(title, 16 + STEP * len(rows), parts)


def _bar(row: Bar, y: float, scale: float) -> list[str]:
    colour = PARTS[row.colour % len(PARTS)]
    width = scale * row.value if math.isfinite(row.value) else RIGHT - LEFT
    parts = [
        f'<text x="{LEFT - 10}" y="{y + 14:.0f}" text-anchor="end">{escape(row.label)}</text>',
        f'<rect x="{LEFT}" y="{y:.0f}" width="{max(0.0, width):.1f}" height="{BAR}" fill="{colour}"/>',
        f'<text x="{RIGHT + 14}" y="{y + 14:.0f}">{escape(row.said)}</text>',
    ]
    if row.interval is not None and all(map(math.isfinite, row.interval)):
        low, high = (LEFT + scale * end for end in row.interval)
        parts.append(_line(low, high, y + BAR / 2, y + BAR / 2, "var(--ink)"))
        parts += [_line(x, x, y + 4, y + BAR - 4, "var(--ink)") for x in (low, high)]
    return parts


@dataclass(frozen=True)
class Curve:
    """A value per tick, and a colour by number; what is not finite is left out."""

    label: str
    values: Sequence[float]
    colour: int = 0


def curves(title: str, ticks: Sequence[str], series: Sequence[Curve]) -> str:
    """Curves over ticks; on a logarithmic scale where all values are positive and span more than a factor of 30."""
    found = [v for curve in series for v in curve.values if math.isfinite(v)]
    if not found:
        return ""
    logs = min(found) > 0 and max(found) / min(found) > 30
    low, high = (_scaled(end, logs) for end in (min(found), max(found)))
    low, high = (low, high) if logs else (min(0.0, low), high)
    span = high - low or 1.0

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (_scaled(value, logs) - low) / span

    parts = [
        f'<text class="soft" x="{_x(i, ticks):.0f}" y="{BOTTOM + 24}" text-anchor="middle">{escape(t)}</text>'
        for i, t in enumerate(ticks)
    ]
    for step in range(5):
        value = low + span * step / 4
        shown = 10**value if logs else value
        parts.append(_line(AXIS, END, y(shown), y(shown), "var(--line)"))
        parts.append(f'<text class="soft" x="{AXIS - 8}" y="{y(shown) + 4:.0f}" text-anchor="end">{shown:.3g}</text>')
    ends: list[tuple[float, Curve]] = []
    for curve in series:
        points = [(_x(i, ticks), y(v)) for i, v in enumerate(curve.values) if math.isfinite(v)]
        if points:
            parts += _curve(points, curve)
            ends.append((points[-1][1], curve))
    return _svg(title, HEIGHT, [*parts, *_names(ends)])


def _curve(points: Sequence[tuple[float, float]], curve: Curve) -> list[str]:
    colour = PARTS[curve.colour % len(PARTS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(curve.label)}</title></circle>'
        for x, y in points
    ]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def _names(ends: Sequence[tuple[float, Curve]]) -> list[str]:
    """The names of curves right of their ends, below each other where they would cover each other."""
    parts, last = [], -math.inf
    for y, curve in sorted(ends, key=lambda end: end[0]):
        last = max(y, last + LINE)
        style = f'style="fill:{PARTS[curve.colour % len(PARTS)]}"'
        parts.append(f'<text x="{END + 12}" y="{last + 4:.0f}" {style}>{escape(curve.label)}</text>')
    return parts


@dataclass(frozen=True)
class Point:
    """Something with a price and a cost, and a colour by number."""

    label: str
    x: float
    y: float
    colour: int = 0


def points(title: str, across: str, rows: Sequence[Point]) -> str:
    """Points over an axis from zero; heights on a logarithmic scale where they span more than a factor of 30."""
    found = [row for row in rows if math.isfinite(row.x) and math.isfinite(row.y)]
    if not found:
        return ""
    ys = [row.y for row in found]
    logs = min(ys) > 0 and max(ys) / min(ys) > 30
    low, high = (_scaled(end, logs) for end in (min(ys), max(ys)))
    low = low if logs else min(0.0, low)
    span, widest = high - low or 1.0, 1.02 * max(row.x for row in found) or 1.0
    parts = [f'<text class="soft" x="{END}" y="{BOTTOM + 40}" text-anchor="end">{escape(across)}</text>']
    for step in range(5):
        value, y = low + span * step / 4, BOTTOM - (BOTTOM - TOP) * step / 4
        parts.append(_line(AXIS, END, y, y, "var(--line)"))
        shown = f"{10**value if logs else value:.3g}"
        parts.append(f'<text class="soft" x="{AXIS - 8}" y="{y + 4:.0f}" text-anchor="end">{shown}</text>')
        at = f"{widest * step / 4:.2g}"
        x = AXIS + (END - AXIS) * step / 4
        parts.append(f'<text class="soft" x="{x:.0f}" y="{BOTTOM + 22}" text-anchor="middle">{at}</text>')
    named: list[tuple[float, float]] = []
    for row in sorted(found, key=lambda row: row.y):
        x, y = AXIS + (END - AXIS) * row.x / widest, BOTTOM - (BOTTOM - TOP) * (_scaled(row.y, logs) - low) / span
        colour = PARTS[row.colour % len(PARTS)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        while any(abs(x - other) < NAME and abs(y - at) < LINE for other, at in named):
            y -= 1  # names of neighbours go up until they do not cover each other
        named.append((x, y))
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" style="fill:{colour}">{escape(row.label)}</text>')
    return _svg(title, HEIGHT, parts)


def _x(i: int, ticks: Sequence[str]) -> float:
    return AXIS + (END - AXIS) * (i / max(1, len(ticks) - 1))


def _scaled(value: float, logs: bool) -> float:
    return math.log10(value) if logs else value


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img"><title>{escape(title)}</title>'
    return f"<figure>{head}{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption></figure>"
