"""What nodes take on a board: a table that was measured there, and what lies between its points.

A curve is of one operator, format and number of threads; its points are nodes that were run alone, less what a run
takes in any case. Between points time follows a power law in rows and in weights (straight lines between logarithms),
beyond them it is in proportion to the work; no node takes less than one that does nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from devices.source import SOURCE
from wire.record import at_least, matching
from wire.work import Work

RUN = "run"  # the operator of the curve that says what runs of so many nodes take that do nothing
Point = tuple[int, float]


@dataclass(frozen=True)
class Curve:
    """Nanoseconds of nodes of some shapes (`wire.work`), in the same order."""

    operator: str
    format: str
    threads: int = field(metadata=at_least(1))
    shapes: tuple[tuple[int, ...], ...] = field(metadata=at_least(1))
    ns: tuple[int, ...] = field(metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def points(self) -> dict[int, list[Point]]:
        """Time by weights (or elements), by rows; both ascending."""
        out: dict[int, list[Point]] = {}
        for shape, ns in sorted(zip(self.shapes, self.ns, strict=True), key=lambda one: self._size(one[0])):
            rows, size = self._size(shape)
            out.setdefault(rows, []).append((size, float(ns)))
        return out

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return Work(self.operator, self.format, shape).size

    def at(self, rows: int, size: int) -> float:
        """Nanoseconds of a node of so many rows and weights."""
        return _between([(known, _between(points, size)) for known, points in self.points.items()], rows)


@dataclass(frozen=True)
class Latency:
    """The table of one board; without curves nothing is known."""

    source: str = field(metadata=matching(SOURCE))
    curves: tuple[Curve, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str], list[Curve]]:
        out: dict[tuple[str, str], list[Curve]] = {}
        for curve in sorted(self.curves, key=lambda curve: curve.threads):
            out.setdefault((curve.operator, curve.format), []).append(curve)
        return out

    def _curve(self, operator: str, fmt: str, threads: int) -> Curve | None:
        """That of the most threads that are not more than those asked for."""
        found = [curve for curve in self._by_kind.get((operator, fmt), ()) if curve.threads <= threads]
        return found[-1] if found else None

    def idle_ns(self, threads: int = 1) -> tuple[float, float]:
        """What a run takes in any case, and what a node that does nothing adds."""
        curve = self._curve(RUN, "", threads)
        points = curve.points[1] if curve else []
        if len(points) < 2:
            return 0.0, 0.0
        (few, short), (many, long) = points[0], points[-1]
        node = max(0.0, (long - short) / (many - few))
        return max(0.0, short - few * node), node

    def work_ns(self, work: Work, threads: int = 1) -> float | None:
        """Nanoseconds of all nodes of one kind; None where the table says nothing of it."""
        curve = self._curve(work.operator, work.format, threads)
        if curve is None:
            return None
        idle = self.idle_ns(threads)[1]
        alone = max(idle, curve.at(*work.size))
        return work.count * (idle + work.batch * (alone - idle))


def work_ns(works: Iterable[Work], latency: Latency | None, threads: int = 1) -> float | None:
    """Nanoseconds of some nodes together; None where there is no table, or it does not know one of them."""
    if latency is None:
        return None
    total = 0.0
    for work in works:
        found = latency.work_ns(work, threads)
        if found is None:
            return None
        total += found
    return total


def contradictions(latency: Latency) -> Iterator[str]:
    """What no table can say."""
    seen = set()
    for at, curve in enumerate(latency.curves):
        where = f"latency.curves[{at}]"
        if not curve.shapes:
            yield f"{where}.shapes: expected at least one, found none"
        if len(curve.shapes) != len(curve.ns):
            yield f"{where}.ns: expected one for each of {len(curve.shapes)} shapes, found {len(curve.ns)}"
        if len(set(curve.shapes)) != len(curve.shapes) or not all(curve.shapes):
            yield f"{where}.shapes: expected each once, and none empty"
        kind = (curve.operator, curve.format, curve.threads)
        if kind in seen:
            yield f"{where}: expected one curve of {kind[0]} {kind[1]} with {kind[2]} threads, found another"
        seen.add(kind)


def _between(points: Sequence[Point], x: int) -> float:
    """A power law through the two points around x; in proportion beyond the first and the last.

    >>> [_between([(1, 10.0), (100, 1000.0)], x) for x in (1, 10, 100, 200)]
    [10.0, 100.0, 1000.0, 2000.0]
    """
    place = bisect_left(points, x, key=lambda point: point[0])
    if place < len(points) and points[place][0] == x:
        return points[place][1]
    if place in (0, len(points)):
        known, ns = points[min(place, len(points) - 1)]
        return ns * x / known
    (low, below), (high, above) = points[place - 1], points[place]
    share = math.log(x / low) / math.log(high / low)
    return float(round(below * (above / below) ** share, 6))
