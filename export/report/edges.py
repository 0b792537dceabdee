"""Every tensor that enters, leaves or crosses, once: where it comes from and who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.report.facts import SegmentFacts, Value
from wire.borders import Split
from wire.manifest import Chain

INPUT, OUTPUT, STATE, TABLE = "input", "output", "state", "table"
BEFORE, AFTER = "the board before", "the board after"


@dataclass(frozen=True)
class Edge:
    """A tensor from a segment, or from outside, to segments, or to outside."""

    value: Value
    source: str
    targets: tuple[str, ...]

    @property
    def crosses(self) -> bool:
        """Whether it is a boundary between segments."""
        return self.value.origin == "boundary"


def edges(segments: Sequence[SegmentFacts], chain: Chain | None = None, split: Split | None = None) -> tuple[Edge, ...]:
    """The edges of a bundle in the order in which they are made: what enters from outside first.

    Args:
        segments: of the bundle.
        chain: names the boards before and after it.
        split: of a front names its tail.
    """
    before, after = _neighbours(chain)
    after = split.tail if split is not None else after
    makers = {value.name: segment.name for segment in reversed(segments) for value in segment.gives}
    values: dict[str, Value] = {}
    for segment in segments:
        for value in (*segment.reads, *segment.gives):
            values.setdefault(value.name, value)
    order = [name for name in values if name not in makers] + [name for name in values if name in makers]
    return tuple(
        Edge(
            values[name],
            makers.get(name) or _outside(values[name], before),
            _targets(values[name], segments, after),
        )
        for name in order
    )


def _outside(value: Value, before: str) -> str:
    return {"model": INPUT, "state": STATE, "table": TABLE, "boundary": before}[value.origin]


def _neighbours(chain: Chain | None) -> tuple[str, str]:
    if chain is None:
        return BEFORE, AFTER
    named = dict(enumerate(chain.devices))
    return named.get(chain.position - 1, BEFORE), named.get(chain.position + 1, AFTER)


def _targets(value: Value, segments: Sequence[SegmentFacts], after: str) -> tuple[str, ...]:
    readers = [segment.name for segment in segments if any(read.name == value.name for read in segment.reads)]
    made = any(given.name == value.name for segment in segments for given in segment.gives)
    if made and value.origin == "boundary" and not readers:
        return (after,)
    leaves = {"model": [OUTPUT], "state": [STATE], "table": [], "boundary": []}[value.origin] if made else []
    return (*readers, *leaves)
