"""Starts what trains, lets it train in turns, and adds it up."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.measure import ROOT, environment

TIMEOUT_S = 600


@dataclass(frozen=True)
class Variant:
    """A side: the module that runs it, and what it is told."""

    name: str
    module: str
    arguments: tuple[str, ...]
    as_worker: bool = True

    def command(self, *more: str) -> list[str]:
        """What to start."""
        return [sys.executable, "-m", self.module, *self.arguments, *more]


@dataclass
class Taken:
    """What a variant took: bytes of each process, seconds of each step by round, mean losses of the first steps."""

    base_bytes: list[int] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    base_anon_bytes: list[int] = field(default_factory=list)
    peak_anon_bytes: list[int] = field(default_factory=list)
    wall_s: list[list[float]] = field(default_factory=list)
    cpu_s: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def remember(self, found: Mapping[str, Any]) -> None:
        """What a child said of its memory."""
        for name in ("base_bytes", "peak_bytes", "base_anon_bytes", "peak_anon_bytes"):
            getattr(self, name).append(found[name])
        self.losses = list(found["losses"])

    def begin(self) -> None:
        """A round of turns."""
        self.wall_s.append([])
        self.cpu_s.append([])

    def time(self, found: Mapping[str, Any]) -> None:
        """What a child said of a step."""
        self.wall_s[-1].append(found["wall_s"])
        self.cpu_s[-1].append(found["cpu_s"])

    def median(self, name: str) -> float:
        """Of bytes."""
        return float(statistics.median(getattr(self, name)))

    @property
    def cpu_median_s(self) -> float:
        """Of all steps."""
        return statistics.median(second for one in self.cpu_s for second in one)

    @property
    def above_imports_bytes(self) -> float:
        """What the step added to what was imported."""
        return self.median("peak_bytes") - self.median("base_bytes")


def remember(variant: Variant, into: Taken) -> None:
    """Take the memory of a variant in a fresh process."""
    done = subprocess.run(
        variant.command("--memory"),
        env=_environment(variant),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{variant.name}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    into.remember(json.loads(done.stdout.splitlines()[-1]))


def take_turns(variants: Sequence[Variant], turns: int, into: Mapping[str, Taken]) -> None:
    """Steps of all variants, one after the other, in processes that live at once; the first turn is not counted."""
    children = {variant.name: _started(variant) for variant in variants}
    try:
        for name, child in children.items():
            _said(name, child)
        for name in children:
            into[name].begin()
        for turn in range(turns + 1):
            for name, child in children.items():
                if child.stdin is None:
                    continue
                child.stdin.write("step\n")
                child.stdin.flush()
                found = _said(name, child)
                if turn:
                    into[name].time(found)
    finally:
        for child in children.values():
            child.kill()
            child.wait()


def _started(variant: Variant) -> subprocess.Popen[str]:
    return subprocess.Popen(
        variant.command(),
        env=_environment(variant),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _said(name: str, child: subprocess.Popen[str]) -> dict[str, Any]:
    line = child.stdout.readline() if child.stdout is not None else ""
    if not line:
        raise RuntimeError(f"{name} ended with {child.wait()}")
    return dict(json.loads(line))


def _environment(variant: Variant) -> dict[str, str]:
    """A worker's, with its limits of malloc, for ours; torch runs with malloc as it is, whose pages it then keeps."""
    given = environment() if variant.as_worker else {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**given, "HF_HUB_OFFLINE": "1"}
