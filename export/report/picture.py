"""A model cut into segments, as one SVG per board: bands of blocks, boundaries between them, slots marked.

Everything is placed from top to bottom in `WIDTH` units, so that a phone shows it in full width. Names are
shortened to what fits and are whole in the tooltip.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from console.report import COLOURS
from console.table import size
from export.report.account import Account
from export.report.blocks import Block, Blocks, Skip
from export.report.edges import INPUT, STATE, Edge
from export.report.facts import SegmentFacts, shape_words

WIDTH = 400
LEFT, RIGHT = 66, 388  # of the blocks; skipping tensors run in the lanes left of them
LANES, LANE = 6, 8
LETTER = 6.6  # mean width of a letter of 12 units
HEAD, STEP, BOX, EDGE_LINE = 30, 54, 38, 15
SHOWN = 4  # tensors at one boundary


def picture(account: Account, blocks: Sequence[Blocks]) -> str:
    """The picture of one bundle.

    Args:
        account: of the bundle.
        blocks: of each segment's forward graph, in order.
    """
    entering = [edge for edge in account.edges if _enters(edge, account)]
    parts, y = _arrow(entering, 6, next((f"from {edge.source}" for edge in entering if edge.crosses), ""))
    for number, (segment, drawn) in enumerate(zip(account.segments, blocks, strict=True)):
        late = [e for e in account.edges if number and e.source in (INPUT, STATE) and segment.name in e.targets]
        band, y = _band(segment, drawn, late, COLOURS[number % len(COLOURS)], y)
        leaving = [edge for edge in account.edges if edge.source == segment.name]
        arrow, y = _arrow(leaving, y, _destination(leaving, account))
        parts += [*band, *arrow]
    title = f"{account.memory.device}: {len(account.segments)} segment(s)"
    svg = f'<svg class="graph" viewBox="0 0 {WIDTH} {y:.0f}" role="img"><title>{escape(title)}</title>'
    return f"<figure>{svg}{''.join(parts)}</svg></figure>"


def _enters(edge: Edge, account: Account) -> bool:
    """Whether a tensor comes from outside into the first segment."""
    made = {segment.name for segment in account.segments}
    return edge.source not in made and any(segment.name in edge.targets for segment in account.segments[:1])


def _destination(leaving: Sequence[Edge], account: Account) -> str:
    """The board that a boundary goes to, where it leaves this one."""
    here = {segment.name for segment in account.segments}
    return next((f"to {edge.targets[0]}" for edge in leaving if edge.crosses and not here & {*edge.targets}), "")


def _arrow(edges: Sequence[Edge], y: float, board: str) -> tuple[list[str], float]:
    """A labelled arrow downwards; what crosses a cut stands out. `board`: from or to which other one."""
    if not edges:
        return [], y + 10
    lines = [(board, " class=strong")] if board else []
    lines += [(words, "" if crosses else " class=soft") for words, crosses in _tensors(edges)]
    end = y + EDGE_LINE * len(lines) + 10
    thick = 3 if any(edge.crosses for edge in edges) else 1.5
    parts = [
        f'<line x1="40" x2="40" y1="{y:.0f}" y2="{end - 7:.0f}" stroke="var(--ink)" stroke-width="{thick}"/>',
        f'<path d="M33 {end - 9:.0f} h14 l-7 9 z" fill="var(--ink)"/>',
    ]
    parts += [_text(54, y + 12 + EDGE_LINE * i, words, RIGHT, given) for i, (words, given) in enumerate(lines)]
    return parts, end + 4


def _tensors(edges: Sequence[Edge]) -> list[tuple[str, bool]]:
    """A line per tensor and whether it crosses a cut, those that do first; of many the last line is their sum."""
    ordered = sorted(edges, key=lambda edge: not edge.crosses)
    shown = ordered if len(ordered) <= SHOWN else ordered[: SHOWN - 1]
    lines = [(_tensor(edge), edge.crosses) for edge in shown]
    rest = ordered[len(shown) :]
    more = [(f"and {len(rest)} more, {size(sum(e.value.bytes or 0 for e in rest))}", False)] if rest else []
    return lines + more


def _tensor(edge: Edge) -> str:
    value = edge.value
    what = f"{value.name} {shape_words(value.shape)} {value.dtype}" if value.dtype else value.name
    return what if value.bytes is None else f"{what}, {size(value.bytes)}"


def _band(segment: SegmentFacts, drawn: Blocks, late: Sequence[Edge], colour: str, y: float) -> tuple[list[str], float]:
    """A segment: its name, its weights, what it reads of the model's inputs beyond the first, its blocks."""
    lines = _tensors(late)
    top = y + HEAD + EDGE_LINE * len(lines)
    height = top - y + STEP * len(drawn.blocks)
    frame = f'width="{WIDTH - 2}" height="{height:.0f}" rx="8" fill="{colour}" fill-opacity="0.1" stroke="{colour}"'
    weights = f"{size(segment.weight_bytes)} of weights"
    parts = [
        f'<rect x="1" y="{y:.0f}" {frame}/>',
        _text(LEFT, y + 20, segment.name, WIDTH - 160, f' class=strong style="fill:{colour}"'),
        f'<text x="{RIGHT}" y="{y + 20:.0f}" text-anchor="end" class="soft">{weights}</text>',
    ]
    for i, (words, _) in enumerate(lines):
        parts.append(_text(LEFT, y + 35 + EDGE_LINE * i, f"{'' if i else 'reads '}{words}", RIGHT, " class=soft"))
    parts += _lanes(drawn, colour, (y, top, y + height))
    for i, block in enumerate(drawn.blocks):
        parts += _box(block, colour, top + STEP * i)
        if i + 1 < len(drawn.blocks):
            middle, at = (LEFT + RIGHT) / 2, top + STEP * i + BOX
            parts.append(f'<path d="M{middle - 4:.0f} {at + 6:.0f} h8 l-4 6 z" fill="{colour}"/>')
    return parts, y + height


def _box(block: Block, colour: str, y: float) -> list[str]:
    """A block; alike ones as a small pile."""
    frame = f'width="{RIGHT - LEFT - 6}" height="{BOX - 6}" rx="5" fill="var(--paper)" stroke="{colour}"'
    pile = (2, 1, 0) if block.alike > 1 else (0,)
    parts = [f'<rect x="{LEFT + 3 * i}" y="{y + 3 * i:.0f}" {frame}/>' for i in pile]
    name = block.first if block.alike == 1 else f"{block.first} to {block.last.rpartition('.')[2]}"
    often = ", ".join(f"{operator} {count}" for operator, count in block.operators[:2])
    each, nodes = f"{block.alike} x " if block.alike > 1 else "", block.nodes // block.alike
    below = f"{size(block.weight_bytes)}, {each}{nodes} node{'s' if nodes > 1 else ''}: {often}"
    parts += [_text(LEFT + 8, y + 14, name, RIGHT - 80 if block.slots else RIGHT - 10)]
    parts += [_text(LEFT + 8, y + 27, below, RIGHT - 10, " class=soft")]
    if block.slots:
        words = f"{block.slots} slot{'s' if block.slots > 1 else ''}"
        parts.append(
            f'<text x="{RIGHT - 12}" y="{y + 14:.0f}" text-anchor="end" style="fill:{colour}">◆ {words}</text>'
        )
    return parts


def _lanes(drawn: Blocks, colour: str, heights: tuple[float, float, float]) -> list[str]:
    """Tensors that skip blocks, each source in a lane of its own while there are lanes."""
    busy: list[int] = []  # per lane: the last block that it reaches
    parts = []
    for skip in drawn.skips:
        free = next((lane for lane, until in enumerate(busy) if until <= skip.source), len(busy))
        if free >= LANES:
            continue
        busy[free : free + 1] = [skip.targets[-1]]
        parts.append(_lane(skip, LEFT - 10 - LANE * free, colour, heights, len(drawn.blocks)))
    return parts


def _lane(skip: Skip, x: float, colour: str, heights: tuple[float, float, float], end: int) -> str:
    """A line from a block's side, or from the segment's upper edge, to blocks, or to its lower edge."""
    upper, top, lower = heights

    def into(block: int) -> float:
        return lower if block == end else top + STEP * block + BOX / 2 - 8

    out = f"M{LEFT} {into(skip.source) + 12:.0f} H{x:.0f}" if skip.source >= 0 else f"M{x:.0f} {upper:.0f}"
    heads = [f"M{x:.0f} {into(t):.0f} H{LEFT - 1} m-5 -3 l5 3 l-5 3" for t in skip.targets if t < end]
    path = f"{out} V{into(skip.targets[-1]):.0f} {' '.join(heads)}"
    title = f"<title>{escape(', '.join(skip.names[:SHOWN]))}</title>"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5">{title}</path>'


def _text(x: float, y: float, words: str, right: float, given: str = "") -> str:
    """A line of text from x to `right` at most: shortened in its middle, whole in its tooltip."""
    most = max(8, int((right - x) / LETTER))
    short = words if len(words) <= most else f"{words[: most - most // 3 - 1]}…{words[-(most // 3) :]}"
    return f'<text x="{x:.0f}" y="{y:.0f}"{given}>{escape(short)}<title>{escape(words)}</title></text>'
