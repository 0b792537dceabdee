"""Every device of a planned fleet in turn, round after round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.planned.fleet import TAIL, Asked, Planned
from bench.planned.given import Given, given, texts
from bench.planned.judged import Row, warm
from bench.planned.serving import Answering
from bench.planned.workers import Taken, Worker, request, train, train_halves
from devices.memory import WORKER_BASE_BYTES
from devices.split.fleet_plan import BoardPlan
from devices.times import works_ns
from edge.probe.latency import measure
from wire.bundle import MANIFEST
from wire.manifest import Manifest, parse_manifest
from wire.step import inference_graphs

STEPS = (2, 10)  # of two jobs, after one that warms
REQUESTS = 12
PACE_S = 8.0  # of a probe between rounds


@dataclass(frozen=True)
class Fleet:
    """What is run, in a folder."""

    asked: Asked
    made: Planned
    folder: Path

    @cached_property
    def given(self) -> Given:
        """Rows and a version."""
        fronts = {board.device for board in self.made.plan.boards if board.in_front}
        whole = next(name for name in (TAIL, *self.made.bundles) if name in self.made.bundles and name not in fronts)
        return given(self.folder, self.made.bundles[whole], 12 * self.asked.batch, self.asked.sequence)

    def manifest(self, name: str) -> Manifest:
        """Of a device's bundle."""
        return parse_manifest((self.made.bundles[name] / MANIFEST).read_bytes())

    def job(self, board: BoardPlan, steps: int, split: Mapping[str, Any] | None = None, tail: bool = False) -> Any:
        """A request as a core makes it of what the hub says."""
        settings = {"steps": steps, "batch": board.batch, "learning_rate": 1e-4, **({"split": split} if split else {})}
        bundle, kind = self.made.bundles[TAIL if tail else board.device], "tail" if tail else "train"
        out = self.folder / f"{board.device}.{kind}"
        return request(self.given, bundle, f"r1-train-{board.device}", out, settings, kind)


@dataclass
class Found:
    """What the runs of one device gave."""

    bases: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    paces: list[float] = field(default_factory=list)

    def memory(self, few: Taken, many: Taken) -> None:
        """The base is that of the first job, which came to a fresh process."""
        self.bases.append(few.base_bytes)
        self.peaks.append(many.peak_bytes)

    def time(self, wall_s: float, **parts: float) -> None:
        """A step, and of what it is made: processors, and `link`."""
        self.wall_s.append(wall_s)
        for name, seconds in parts.items():
            self.parts.setdefault(name, []).append(seconds)

    def paced(self, pace: float) -> None:
        """The machine was so many times as slow as when it was probed since this was last said."""
        self.paces += [pace] * (len(self.wall_s) - len(self.paces))

    @property
    def own_s(self) -> list[float]:
        """Of every run, of the processor at the pace of the probe, with the time on the link."""
        links = self.parts.get("link", [0.0] * len(self.paces))
        computed = [sum(own) for own in zip(*(p for n, p in self.parts.items() if n != "link"), strict=True)]
        return [cpu / pace + link for cpu, pace, link in zip(computed, self.paces, links, strict=True)]

    def row(self, device: str, does: str, said: tuple[int, int, float], budget_bytes: int) -> Row:
        """Beside what was said: by the plan, by the bundle (bytes), and the time; `budget_bytes`: used up."""
        parts = {name: statistics.median(own) for name, own in self.parts.items()}
        base = round(statistics.median(self.bases))
        most = max(0, budget_bytes - base)
        return Row(device, does, said[0], said[1], base, self.peaks, said[2], self.wall_s, self.own_s, parts, most)


Rows = dict[tuple[str, str], Found]


def measured(fleet: Fleet, rounds: int) -> list[Row]:
    """A row for all that a device does, over some rounds in which all take turns."""
    found: Rows = {}
    before = pace(fleet)
    for _ in range(rounds):
        for board in fleet.made.plan.boards:
            if board.in_front:
                _halves(fleet, board, found)
            else:
                _whole(fleet, board, found.setdefault((board.device, "train"), Found()))
                _requests(fleet, board.device, found.setdefault((board.device, "request"), Found()))
        after = pace(fleet)
        for own in found.values():
            own.paced((before + after) / 2)
        before = after
    return [own.row(*key, _said(fleet, *key), _budget(fleet, *key)) for key, own in found.items()]


def pace(fleet: Fleet) -> float:
    """How many times as slow the machine is as when it was probed, by the nodes of a training step."""
    manifest = fleet.manifest(next(iter(fleet.made.bundles)))
    works = [work for segment in manifest.segments for graph in segment.graphs for work in graph.work]
    now = replace(fleet.made.speed, latency=measure(PACE_S, (1,), "measured: now"))
    return works_ns(works, now) / works_ns(works, fleet.made.speed)


def _whole(fleet: Fleet, board: BoardPlan, found: Found) -> None:
    with closing(Worker()) as worker:
        base = worker.ready(fleet.folder)
        _, few, many = (train(worker, fleet.job(board, steps), base) for steps in (1, *STEPS))
    found.memory(few, many)
    found.time(_step_s(few, many), processor=warm(few.cpu_s, many.cpu_s, STEPS))


def _halves(fleet: Fleet, board: BoardPlan, rows: Rows) -> None:
    keys = ((board.device, "front"), (TAIL, f"tail of {board.device}"))
    found, behind = (rows.setdefault(key, Found()) for key in keys)
    mode = "local" if board.trainer == "local" else "steps"
    told = {"key": "", "coding": board.coding, "labels": board.labels, "mode": mode}
    rate = fleet.asked.link_bytes_per_s
    with closing(Worker()) as one, closing(Worker()) as other:
        bases = (one.ready(fleet.folder), other.ready(fleet.folder))
        jobs = []
        for steps in (1, *STEPS):
            front = fleet.job(board, steps, {**told, "tail": TAIL})
            back = fleet.job(board, steps, {**told, "board": board.device}, tail=True)
            jobs.append(train_halves((one, other), (front, back), bases, rate))
    (few, few_back, few_bytes), (many, many_back, many_bytes) = jobs[1:]
    found.memory(few, many)
    behind.memory(few_back, many_back)
    cpu = [warm(a.cpu_s, b.cpu_s, STEPS) for a, b in ((few, many), (few_back, many_back))]
    link = warm(few_bytes, many_bytes, STEPS) / rate
    found.time(_step_s(few, many), front=cpu[0], tail=cpu[1], link=link)
    behind.time(_step_s(few, many), tail=cpu[1])


def _requests(fleet: Fleet, device: str, found: Found) -> None:
    with closing(Answering()) as answering:
        bundle = fleet.made.bundles[device]
        asked = texts(bundle, 1 + REQUESTS, fleet.asked.sequence)
        served = answering.serve(fleet.given.place(bundle), fleet.given, asked)
    found.bases.append(served.base_bytes)
    found.peaks.append(served.peak_bytes)
    for wall_s, cpu_s in zip(served.wall_s, served.cpu_s, strict=True):
        found.time(wall_s, processor=cpu_s)


def _step_s(few: Taken, many: Taken) -> float:
    """By what the board's worker says of its steps."""
    shorter, longer = (steps * one.metrics["seconds_per_step"] for steps, one in zip(STEPS, (few, many), strict=True))
    return warm(shorter, longer, STEPS)


def _budget(fleet: Fleet, device: str, does: str) -> int:
    """What may be used up by sessions that stay open: those of a half of several segments; 0 of all others."""
    manifest = fleet.manifest(device)
    several = len(manifest.segments) > 1 and does not in ("train", "request")
    return manifest.plan.budget_bytes if several else 0


def _said(fleet: Fleet, device: str, does: str) -> tuple[int, int, float]:
    """Bytes above the base by the plan and by the bundle, and seconds of a step; 0 where nothing is said."""
    plan, manifest = fleet.made.plan, fleet.manifest(device)
    graphs = manifest.plan.predicted_bytes - WORKER_BASE_BYTES
    if does == "request":
        works = [work for graph in inference_graphs(manifest, manifest.buckets[0].name) for work in graph.work]
        return 0, 0, works_ns(works, fleet.made.speed) / 1e9
    board = plan.board(device)
    if board is not None:
        return board.memory_bytes - WORKER_BASE_BYTES, graphs, board.step_ns / 1e9
    memory = 0 if plan.tail is None else plan.tail.memory_bytes - WORKER_BASE_BYTES
    return memory, graphs, 0.0
