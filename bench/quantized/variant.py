"""What one maker made of a model: files, how they are run, and what a fresh process takes for that."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from bench.quantized.case import Case, Run, Values
from export.chain import Graph
from export.measure import environment
from wire.manifest import Options
from wire.record import plain

Family = Literal["ours", "onnxruntime", "torch"]
DEFAULTS = Options("all", "default", memory_pattern=True, cpu_arena=True)  # onnxruntime's own
TIMEOUT_S = 600


@dataclass(frozen=True)
class Memory:
    """Of a fresh process, above what it had after its imports: bytes."""

    peak_bytes: int
    peak_anon_bytes: int
    loaded_anon_bytes: int


class Variant(Protocol):
    """One maker's."""

    name: str
    family: Family
    file_bytes: int

    def run(self, rows: int) -> Run:
        """What runs so many rows."""
        ...

    def memory(self) -> Memory:
        """At the rows that accuracy is judged with."""
        ...


@dataclass
class OnnxVariant:
    """Graphs by rows; one file may serve all."""

    name: str
    family: Family
    case: Case
    file_bytes: int
    graphs: Mapping[int, tuple[Path, Options]] = field(default_factory=dict)

    def run(self, rows: int) -> Run:
        """A session of its own."""
        return run_of(*self.graphs[rows], self.case.output)

    def memory(self) -> Memory:
        """Three runs, all pages of mapped weights read."""
        path, options = self.graphs[self.case.judged_rows]
        return onnx_memory(path, options, self.case.feeds(self.case.judged_rows))


@dataclass
class TorchVariant:
    """A folder that transformers loads."""

    name: str
    family: Family
    case: Case
    folder: Path
    file_bytes: int

    def run(self, rows: int) -> Run:
        """The module itself."""
        import torch

        module = self.case.module(self.folder)

        def run(fed: Values) -> Any:
            return module(**{name: torch.from_numpy(value) for name, value in fed.items()}).numpy()

        return run

    def memory(self) -> Memory:
        """Three runs."""
        arguments = [type(self.case).__module__, type(self.case).__name__, str(self.folder)]
        return _child("bench.quantized.torch_peak", arguments, self.case.feeds(self.case.judged_rows))


def run_of(path: Path, options: Options, output: str) -> Run:
    """A session as a function."""
    graph = Graph(path, options)
    return lambda fed: graph(fed)[output]


def onnx_memory(path: Path, options: Options, fed: Values) -> Memory:
    """Of a worker with one graph."""
    with tempfile.TemporaryDirectory() as name:
        described = Path(name) / "options.json"
        described.write_text(json.dumps(plain(options)), encoding="utf-8")
        return _child("export.peak", [str(path), "--options", str(described)], fed)


def _child(module: str, arguments: list[str], fed: Values) -> Memory:
    with tempfile.TemporaryDirectory() as name:
        given = Path(name) / "feeds.npz"
        arrays: dict[str, Any] = dict(fed)
        np.savez(given, **arrays)
        command = [sys.executable, "-m", module, *arguments, "--feeds", str(given)]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{module}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Memory(
        found["peak_bytes"] - found["base_bytes"],
        found["peak_anon_bytes"] - found["base_anon_bytes"],
        found["loaded_anon_bytes"] - found["base_anon_bytes"],
    )
