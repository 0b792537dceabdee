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
    """What a variant took: bytes, seconds of each step, mean loss of each step."""

    base_bytes: list[int] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    base_anon_bytes: list[int] = field(default_factory=list)
    peak_anon_bytes: list[int] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, found: Mapping[str, Any]) -> None:
        """What a child said of its memory, or of a step."""
        for name in ("base_bytes", "peak_bytes", "base_anon_bytes", "peak_anon_bytes", "wall_s", "cpu_s"):
            if name in found:
                getattr(self, name).append(found[name])
        self.losses = list(found.get("losses", self.losses))

    def median(self, name: str) -> float:
        """Of a list."""
        return float(statistics.median(getattr(self, name)))

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
    into.add(json.loads(done.stdout.splitlines()[-1]))


def take_turns(variants: Sequence[Variant], turns: int, into: Mapping[str, Taken]) -> None:
    """Steps of all variants, one after the other, in processes that live at once; the first turn is not counted."""
    children = {variant.name: _started(variant) for variant in variants}
    try:
        for name, child in children.items():
            _said(name, child)
        for turn in range(turns + 1):
            for name, child in children.items():
                if child.stdin is None:
                    continue
                child.stdin.write("step\n")
                child.stdin.flush()
                found = _said(name, child)
                if turn:
                    into[name].add(found)
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
