"""A report as one HTML page that needs nothing else: tables, bars against a limit, lines, pictures.

Everything that comes from data is escaped; pictures are inlined; no script, no request to anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from console.table import MIB, is_number

STYLE = """
:root { --ink:#1b1f24; --soft:#59636e; --line:#d1d9e0; --paper:#fff; --panel:#f6f8fa; --a:#0969da; --b:#bc4c00;
  --c:#1a7f37; --d:#8250df; --e:#bf3989; --f:#9a6700; --g:#1b7c83; --bad:#cf222e }
@media (prefers-color-scheme: dark) { :root { --ink:#e6edf3; --soft:#9198a1; --line:#3d444d; --paper:#0d1117;
  --panel:#151b23; --a:#4493f8; --b:#db6d28; --c:#3fb950; --d:#ab7df8; --e:#db61a2; --f:#d29922;
  --g:#39c5cf; --bad:#f85149 } }
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
h3 { font-size:1rem; margin:1.4rem 0 .4rem } th.name,td.name { text-align:left }
.wide { overflow-x:auto } .wide td { white-space:nowrap }
table.words td { text-align:left; vertical-align:top; white-space:normal; overflow-wrap:anywhere }
table.words td:first-child { color:var(--soft); white-space:nowrap }
svg.graph { background:none } svg.graph text { font-size:12px } svg .strong { font-weight:600 }
.beside { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr)); gap:1rem 2rem }
.beside > div { max-width:32rem; min-width:0 } .stack { margin:.5rem 0; font-size:.85rem }
.stack svg { display:block; height:24px; border-radius:3px } .stack .bad { color:var(--bad) }
.keys span { font-size:.85rem; color:var(--soft); margin-right:1rem; white-space:nowrap }
.keys i { display:inline-block; width:.8em; height:.8em; margin-right:.35em; border-radius:2px }
ul.checks { list-style:none; padding:0 } ul.checks li::before { content:"\\2713  "; color:var(--c) }
ul.checks li.bad::before { content:"\\2717  "; color:var(--bad) }
"""
COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")
PARTS = ("var(--soft)", *COLOURS, "var(--e)", "var(--f)", "var(--g)")


@dataclass(frozen=True)
class Stack:
    """A sum with its parts in bytes, and what was measured beside it."""

    label: str
    parts: Mapping[str, int]
    measured: int | None = None


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
    """A table; numbers stand to the right, and the rows whose indexes are in `strong` stand out."""
    text = [any(not is_number(str(row[i])) for row in rows) for i in range(len(header))]
    kinds = [" class=name" if words else "" for words in text]
    top = "".join(f"<th{kind}>{escape(h)}</th>" for h, kind in zip(header, kinds, strict=True))
    lines = [
        f"<tr{' class=strong' if i in strong else ''}>"
        + "".join(f"<td{kind}>{escape(str(c))}</td>" for c, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for i, row in enumerate(rows)
    ]
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def names(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what there is to say of each; a row without a name goes on with the one above."""
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(words)}</td></tr>" for name, words in rows)
    return f'<table class="words"><tbody>{lines}</tbody></table>'


def heading(words: str) -> str:
    """A headline inside a section."""
    return f"<h3>{escape(words)}</h3>"


def beside(items: Sequence[tuple[str, str]]) -> str:
    """Titled pieces beside each other, below each other on a narrow screen."""
    return f'<div class="beside">{"".join(f"<div>{heading(title)}{piece}</div>" for title, piece in items)}</div>'


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


def stacks(rows: Sequence[Stack], limit: int) -> str:
    """Predicted sums in parts, each above a thin bar of what was measured, all on one scale.

    Args:
        rows: in bytes.
        limit: in bytes, drawn as a line through all of them; 0 is none.
    """
    totals = [sum(row.parts.values()) for row in rows] + [row.measured or 0 for row in rows]
    scale = 1.02 * max([limit, *totals, 1])
    order = dict.fromkeys(name for row in rows for name in row.parts)
    colours = {name: PARTS[i % len(PARTS)] for i, name in enumerate(order)}
    keys = "".join(f'<span><i style="background:{c}"></i>{escape(name)}</span>' for name, c in colours.items())
    keys += '<span><i style="background:var(--ink)"></i>measured</span>'
    keys += '<span><i style="background:var(--bad)"></i>budget</span>' if limit else ""
    return "".join(_stack(row, limit, scale, colours) for row in rows) + f'<p class="keys">{keys}</p>'


def _stack(row: Stack, limit: int, scale: float, colours: Mapping[str, str]) -> str:
    bars, at = [], 0.0
    for name, part in row.parts.items():
        title = f"<title>{escape(name)} {part / MIB:.1f} MiB</title>"
        bars.append(
            f'<rect x="{100 * at / scale:.2f}%" width="{100 * part / scale:.2f}%" y="0" height="15" '
            f'fill="{colours[name]}">{title}</rect>'
        )
        at += part
    words = f"{at / MIB:.1f} MiB predicted"
    if row.measured is not None:
        bars.append(f'<rect x="0" y="17" width="{100 * row.measured / scale:.2f}%" height="7" fill="var(--ink)"/>')
        words += f", {row.measured / MIB:.1f} measured"
    if limit:
        x = f"{100 * limit / scale:.2f}%"
        bars.append(f'<line x1="{x}" x2="{x}" y1="0" y2="24" stroke="var(--bad)" stroke-width="2"/>')
    over = " class=bad" if limit and max(at, row.measured or 0) > limit else ""
    said = f"<b>{escape(row.label)}</b> <span{over}>{words}</span>"
    return f'<div class="stack">{said}<svg role="img">{"".join(bars)}</svg></div>'


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
