"""A report as one HTML page that needs nothing else: tables, bars against a limit, lines, pictures.

Everything that comes from data is escaped; pictures are inlined; no script, no request to anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
:root { --ink:#1b1f24; --soft:#59636e; --line:#d1d9e0; --paper:#fff; --panel:#f6f8fa; --a:#0969da; --b:#bc4c00;
  --c:#1a7f37; --d:#8250df; --bad:#cf222e }
@media (prefers-color-scheme: dark) { :root { --ink:#e6edf3; --soft:#9198a1; --line:#3d444d; --paper:#0d1117;
  --panel:#151b23; --a:#4493f8; --b:#db6d28; --c:#3fb950; --d:#ab7df8; --bad:#f85149 } }
body { font:16px/1.5 system-ui,sans-serif; color:var(--ink); background:var(--paper); max-width:60rem;
  margin:2rem auto; padding:0 1rem }
h1 { font-size:1.7rem; margin-bottom:.2rem } h2 { font-size:1.2rem; margin-top:2.2rem }
p.lead { color:var(--soft); margin-top:0 }
table { border-collapse:collapse; width:100%; font-size:.92rem } th,td { padding:.35rem .6rem; text-align:right;
  border-bottom:1px solid var(--line) } th:first-child,td:first-child { text-align:left } th { color:var(--soft);
  font-weight:600 } tr.strong td { font-weight:600 }
svg { width:100%; height:auto; background:var(--panel); border-radius:6px } svg text { fill:var(--ink);
  font:13px system-ui,sans-serif } svg .soft { fill:var(--soft) } figure { margin:1rem 0 }
.pictures { display:flex; flex-wrap:wrap; gap:.5rem } .pictures figure { margin:0; text-align:center;
  font-size:.8rem; color:var(--soft) } .pictures img { width:64px; height:64px; image-rendering:pixelated }
ul.checks { list-style:none; padding:0 } ul.checks li::before { content:"\\2713  "; color:var(--c) }
ul.checks li.bad::before { content:"\\2717  "; color:var(--bad) }
"""
COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole page. `sections` are pieces made by the functions below."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>' + "".join(sections)
    return f"{head}{view}<style>{STYLE}</style><body>{body}</body></html>\n"


def section(title: str, *parts: str) -> str:
    """A headline and what stands below it."""
    return f"<h2>{escape(title)}</h2>" + "".join(parts)


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], strong: Sequence[int] = ()) -> str:
    """A table; the rows whose indexes are in `strong` stand out."""
    top = "".join(f"<th>{escape(h)}</th>" for h in header)
    lines = [
        f"<tr{' class=strong' if i in strong else ''}>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>"
        for i, row in enumerate(rows)
    ]
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def checks(results: Sequence[tuple[str, bool]]) -> str:
    """A list of what was checked, with a tick or a cross."""
    items = "".join(f"<li{'' if ok else ' class=bad'}>{escape(words)}</li>" for words, ok in results)
    return f'<ul class="checks">{items}</ul>'


def bars(rows: Sequence[tuple[str, float, float]], unit: str) -> str:
    """One bar per row, a share of its own limit: (label, value, limit)."""
    parts = []
    for i, (label, value, limit) in enumerate(rows):
        y, width = 12 + 34 * i, 380 * min(1.0, value / limit if limit else 1.0)
        colour = "var(--bad)" if value > limit else COLOURS[0]
        parts.append(f'<text x="12" y="{y + 16}">{escape(label)}</text>')
        parts.append(f'<rect x="220" y="{y}" width="380" height="22" fill="none" stroke="var(--line)"/>')
        parts.append(f'<rect x="220" y="{y}" width="{width:.1f}" height="22" fill="{colour}"/>')
        parts.append(f'<text x="612" y="{y + 16}">{value:.0f} of {limit:.0f} {escape(unit)}</text>')
    return f'<figure><svg viewBox="0 0 800 {20 + 34 * len(rows)}" role="img">{"".join(parts)}</svg></figure>'


def lines(
    series: Sequence[tuple[str, Sequence[float]]], levels: Sequence[tuple[str, float]], ticks: Sequence[str]
) -> str:
    """Shares (0 to 1) over steps, with level lines to compare against.

    Args:
        series: (label, one value per tick).
        levels: (label, value) drawn as dashed lines.
        ticks: what stands below each step.
    """
    values = [v for _, vs in series for v in vs] + [v for _, v in levels]
    low, high = max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)
    span = max(high - low, 1e-6)

    def x(i: int) -> float:
        return 60 + 540 * (i / max(1, len(ticks) - 1))

    def y(v: float) -> float:
        return 240 - 210 * (v - low) / span

    parts = [
        f'<text class="soft" x="8" y="{y(v) + 4:.0f}">{100 * v:.0f} %</text>' for v in (low, (low + high) / 2, high)
    ]
    parts += [
        f'<text class="soft" x="{x(i):.0f}" y="264" text-anchor="middle">{escape(t)}</text>'
        for i, t in enumerate(ticks)
    ]
    taken: list[float] = []
    for n, (label, value) in enumerate(levels):
        colour = COLOURS[(n + len(series)) % 4]
        parts.append(_dashes(y(value), colour))
        parts.append(_label(label, value, _free(taken, y(value)), colour))
    for n, (label, points) in enumerate(series):
        path = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[n % 4]}" stroke-width="2.5"/>')
        parts += [
            f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="3.5" fill="{COLOURS[n % 4]}"/>' for i, v in enumerate(points)
        ]
        parts.append(_label(label, points[-1], _free(taken, y(points[-1])), COLOURS[n % 4]))
    return f'<figure><svg viewBox="0 0 860 280" role="img">{"".join(parts)}</svg></figure>'


def pictures(images: Sequence[tuple[str, bytes]]) -> str:
    """PNG pictures with captions: (caption, bytes)."""
    items = [
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, png in images
    ]
    return f'<div class="pictures">{"".join(items)}</div>'


def _dashes(y: float, colour: str) -> str:
    return f'<line x1="60" x2="600" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-dasharray="6 5"/>'


def _label(label: str, value: float, y: float, colour: str) -> str:
    return f'<text x="614" y="{y + 4:.0f}" style="fill:{colour}">{escape(label)} {100 * value:.1f} %</text>'


def _free(taken: list[float], y: float) -> float:
    while any(abs(y - other) < 15 for other in taken):
        y += 15
    taken.append(y)
    return y
