"""The latency table of this board: every node of `nodes`, again and again in turns, medians.

In turns, for in a model too other nodes have been at the caches since a node ran last. A run's own time, which is that
of a graph of one node that does nothing less that node's share, is taken off. With one thread it is the time of the
processor, so that other programs count for less; with more it is that of the clock.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from devices.latency import RUN, Curve, Latency
from edge.probe.nodes import Node, nodes
from edge.runtime import CPU, session_options
from wire.manifest import Options
from wire.work import Work

FILL_BYTES, FILL = 4 << 20, b"\x3c"  # of every weight: 0.0115 in float32, 60 in int8
PLAIN = Options("disable", "priority", False, True, {"session.intra_op.allow_spinning": "0"})  # as bundles have it
LEAST_TURNS, MOST_TURNS = 3, 100
SLOW_NS = 300_000_000  # a node that takes so long is run in the first turns only
IDS = "tensor(int64)"
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    IDS: np.int64,
}
Advance = Callable[[float], None]


def measure(
    budget_s: float,
    threads: Sequence[int] = (1,),
    source: str = "unverified",
    *,
    chosen: Sequence[Node] | None = None,
    advance: Advance = lambda share: None,
) -> Latency:
    """Measure.

    Args:
        budget_s: for all of it; three turns are made in any case, and some that has run longer is not begun again.
        threads: numbers of threads, each of which gets its share of the time.
        source: what the table says of itself.
        chosen: what to measure; everything where it is None.
        advance: told which share of the time has passed.

    Returns:
        Curves in which more rows or weights never take less: a point that was measured slower than a larger one
        takes that one's place.
    """
    found = nodes() if chosen is None else list(chosen)
    curves: list[Curve] = []
    with tempfile.TemporaryDirectory(prefix="edgequilt-probe-") as name:
        folder = Path(name)
        (folder / "fill.bin").write_bytes(FILL * FILL_BYTES)
        for path in sorted({node.file for node in found}):
            shutil.copyfile(path, folder / path.name)
        for count in threads:
            loaded = _Loaded(folder, count)
            alone = [loaded.alone(node) for node in found]
            curves += _curves(found, _timed(alone, budget_s / len(threads), count, advance), count)
    return Latency(source, tuple(curves))


class _Loaded:
    """Sessions by file, and what is fed by shape: boards are small."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._options = folder, session_options(PLAIN, threads)
        self._sessions: dict[str, Any] = {}
        self._fed: dict[tuple[Any, ...], Any] = {}

    def alone(self, node: Node) -> _Alone:
        """A node, ready to run."""
        name = node.file.name
        if name not in self._sessions:
            path = str(self._folder / name)
            self._sessions[name] = ort.InferenceSession(path, self._options, providers=[CPU])
        session = self._sessions[name]
        return _Alone(session, {value.name: self._value(value, node) for value in session.get_inputs()})

    def _value(self, value: Any, node: Node) -> Any:
        shape = tuple(size if isinstance(size, int) else node.sizes[size] for size in value.shape)
        limit = node.sizes["rows"] if value.type == IDS else 0
        key = (value.type, shape, limit)
        if key not in self._fed:
            self._fed[key] = ort.OrtValue.ortvalue_from_numpy(_filled(shape, TYPES[value.type], limit))
        return self._fed[key]


class _Alone:
    """A graph that is fed; what it reads and writes stays where it is."""

    def __init__(self, session: Any, fed: Mapping[str, Any]) -> None:
        self._session, self._binding = session, session.io_binding()
        for name, value in fed.items():
            self._binding.bind_ortvalue_input(name, value)
        output = session.get_outputs()[0].name
        self._binding.bind_output(output, "cpu")
        session.run_with_iobinding(self._binding)  # makes what later runs write into
        self._binding.bind_ortvalue_output(output, self._binding.get_outputs()[0])

    def run(self, clock: Callable[[], int]) -> int:
        """Nanoseconds of one run."""
        began = clock()
        self._session.run_with_iobinding(self._binding)
        return clock() - began


def _filled(shape: tuple[int, ...], kind: Any, limit: int) -> NDArray[Any]:
    """Small numbers that are neither zero nor subnormal; ids below the limit."""
    size = int(np.prod(shape, dtype=np.int64))
    if limit:
        return (np.arange(size, dtype=np.int64) * 7 % limit).reshape(shape)
    pattern = np.arange(size) % 61
    values = (pattern + 1) / 64 if np.issubdtype(kind, np.floating) else pattern
    return np.ascontiguousarray(values, dtype=kind).reshape(shape)


def _timed(alone: Sequence[_Alone], budget_s: float, threads: int, advance: Advance) -> list[float]:
    """Medians, runs included; the order is another one in every turn."""
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    taken: list[list[int]] = [[] for _ in alone]
    began, passed, order = time.monotonic(), 0.0, random.Random(0)  # noqa: S311  # an order, not a secret
    for turn in range(MOST_TURNS):
        for at in order.sample(range(len(alone)), len(alone)):
            if turn < LEAST_TURNS or taken[at][-1] < SLOW_NS:
                taken[at].append(alone[at].run(clock))
        now = time.monotonic() - began
        advance(min(now, budget_s) - passed)
        passed = min(now, budget_s)
        if turn + 1 >= LEAST_TURNS and now * (turn + 2) / (turn + 1) > budget_s:
            break
    return [statistics.median(times[1:]) for times in taken]


def _curves(found: Sequence[Node], taken: Sequence[float], threads: int) -> list[Curve]:
    """By operator and format, what a run takes in any case taken off."""
    by_kind: dict[tuple[str, str], dict[tuple[int, ...], int]] = {}
    for node, ns in zip(found, taken, strict=True):
        by_kind.setdefault((node.operator, node.format), {})[node.shape] = max(1, round(ns))
    runs = by_kind.pop((RUN, ""), {})
    out = [_curve(RUN, "", threads, runs)] if runs else []
    run_ns, node_ns = Latency("unverified", tuple(out)).idle_ns(threads)
    for (operator, fmt), points in sorted(by_kind.items()):
        net = {shape: max(1, round(max(node_ns, ns - run_ns))) for shape, ns in points.items()}
        out.append(_curve(operator, fmt, threads, net))
    return out


def _curve(operator: str, fmt: str, threads: int, points: Mapping[tuple[int, ...], int]) -> Curve:
    """More never takes less: each point is at most the least of those that are larger in every way."""
    size = {shape: Work(operator, fmt, shape).size for shape in points}

    def least(shape: tuple[int, ...]) -> int:
        rows, weights = size[shape]
        return min(ns for other, ns in points.items() if size[other][0] >= rows and size[other][1] >= weights)

    shapes = sorted(points, key=lambda shape: size[shape])
    return Curve(operator, fmt, threads, tuple(shapes), tuple(least(shape) for shape in shapes))
