"""Peaks of anonymous memory: a step of forward passes only against the same graph's inference, in fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.forward_only.encoders import exported, rows
from console.table import mib

BAR = 1.1
WIDTH, LAYERS, SEQUENCE, WORDS = 256, 4, 64, 60
TURNS = 1
PAIRS = {"spry": "forward", "qzo": "scales"}  # a trainer, and the inference that it is made of


def measured(folder: Path) -> list[dict[str, Any]]:
    """For each format and trainer: both peaks, their ratio, and that of what lies above the process before."""
    out = []
    for quant in ("int8", "int4"):
        bundle = exported(folder / f"memory-{quant}", quant, WIDTH, LAYERS, SEQUENCE)
        (bundle.parent / "rows.json").write_text(json.dumps([[r.sample, r.label] for r in rows(16, 0, WORDS)]))
        for trainer, inference in PAIRS.items():
            turns = [{way: _child(bundle, way) for way in (inference, trainer)} for _ in range(TURNS)]
            peaks = [[turn[way]["peak"] for turn in turns] for way in (trainer, inference)]
            ratio = statistics.median(a / b for a, b in zip(*peaks, strict=True))
            above = statistics.median(_above(turn[trainer]) / _above(turn[inference]) for turn in turns)
            found = {"format": quant, "trainer": trainer, "parameters": turns[0][trainer]["parameters"]}
            found |= {"step peak": mib(int(statistics.median(peaks[0])))}
            found |= {"inference peak": mib(int(statistics.median(peaks[1]))), "ratio": ratio, "above start": above}
            out.append({**found, "bar": "met" if ratio <= BAR else "missed"})
    return out


def _above(figures: dict[str, float]) -> float:
    return max(1.0, figures["peak"] - figures["before"])


def _child(bundle: Path, way: str) -> dict[str, float]:
    line = [sys.executable, "-m", "bench.forward_only.child", str(bundle), way]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
