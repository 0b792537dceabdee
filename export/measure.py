"""Peak memory and time of a finished graph, in fresh processes, under a short fixed list of session options.

No option is best for every graph: priority order halves the peak of one and raises that of another. So each
graph is tried with each of them, and the best one whose numbers are right is recorded beside it.

Weights are not packed at load, so that those in float stay mapped from their file. Of few bits they have to be packed:
unpacked, MatMulNBits restores the whole weight at every run, 10 to 60 times slower. Products of integers pack theirs at
every run then, which takes a quarter of the time of an encoder with 16 tokens and saves nothing at the peak.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError
from devices.malloc import MALLOC
from devices.memory import IMPORTS
from export.chain import PLAIN
from export.difference import relative_difference
from export.packing import UNPACKED, is_integer, is_nbits, packable
from wire.files import file_digest
from wire.manifest import Options
from wire.record import plain

# the plain options first: they are the reference for the numbers of the others
CANDIDATES = (
    PLAIN,
    replace(PLAIN, execution_order="default"),
    replace(PLAIN, cpu_arena=False),
    replace(PLAIN, graph_optimization="basic", execution_order="default"),
)
PACKED = tuple(replace(o, config={k: v for k, v in o.config.items() if k != UNPACKED}) for o in CANDIDATES)
AS_GOOD = 1.05  # peaks within 5 % are equal; then the faster one wins
BAR = 1e-5
TIMEOUT_S = 600.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Peak:
    """What one process took: high-water marks with the session and before it, and the time of a step.

    `anon` is what no file is behind; PSS shares what several processes map among them, and is read after the runs.
    """

    options: Options
    peak_bytes: int
    base_bytes: int
    peak_anon_bytes: int
    base_anon_bytes: int
    step_s: float
    pss_bytes: int = 0
    base_pss_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """What the graph added to the process."""
        return self.peak_bytes - self.base_bytes


def candidates_for(graph: Path) -> tuple[Options, ...]:
    """The options that a written graph is tried with: weights are packed where one is of few bits or of integers."""
    model = ir.load(graph)
    small = (node for node in model.graph if is_nbits(node) or is_integer(node))
    return PACKED if any(packable(node) is not None for node in small) else CANDIDATES


def kernels(candidates: Sequence[Options]) -> list[Options]:
    """One for each choice of kernels: order and arena choose none, and optimized runs are checked unoptimized as well.

    >>> [options.graph_optimization for options in kernels(CANDIDATES)]
    ['basic']
    """
    first = {(options.graph_optimization, tuple(options.config.items())): options for options in reversed(candidates)}
    optimized = {config for level, config in first if level != "disable"}
    return [options for (level, config), options in first.items() if level != "disable" or config not in optimized]


class Measurer:
    """Measures each graph once: equal graphs of several boards share the figures.

    `candidates` are tried instead of those for the graph. `kind` is that of the worker's preprocessing, which decides
    what it imports.
    """

    def __init__(self, work: Path, candidates: tuple[Options, ...] | None = None, kind: str = "text") -> None:
        self.work, self.candidates, self.kind = work, candidates, kind
        self.known: dict[str, Peak] = {}

    def best(
        self,
        graph: Path,
        feeds: Mapping[str, NDArray[Any]],
        advance: Callable[[], None] = lambda: None,
        candidates: Sequence[Options] | None = None,
    ) -> Peak:
        """The figures under the best options.

        Args:
            graph: a written graph; the weights it refers to lie beside it.
            feeds: every input by its name.
            advance: called after each candidate.
            candidates: options to try, the plain ones first, instead of those of the measurer.

        Raises:
            VerificationError: the graph does not run with the plain options.
        """
        key = file_digest(graph)
        if key not in self.known:
            self.known[key] = choose(self._try_all(graph, feeds, advance, candidates or self.candidates))
        return self.known[key]

    def _try_all(
        self,
        graph: Path,
        feeds: Mapping[str, NDArray[Any]],
        advance: Callable[[], None],
        candidates: Sequence[Options] | None,
    ) -> list[Peak]:
        given, reference = self.work / "feeds.npz", None
        arrays: dict[str, Any] = dict(feeds)
        np.savez(given, **arrays)
        right = []
        for number, options in enumerate(candidates or candidates_for(graph)):
            kept = self.work / f"outputs{number}.npz"
            peak = _run(graph, options, given, kept, self.kind)
            advance()
            if isinstance(peak, str) and reference is None:
                raise VerificationError(
                    f"expected {graph.name} to run with plain session options, but it stops ({peak})"
                )
            if isinstance(peak, str):
                continue
            with np.load(kept) as file:
                outputs = {name: file[name] for name in file.files}
            reference = outputs if reference is None else reference
            if all(relative_difference(outputs[name], value) <= BAR for name, value in reference.items()):
                right.append(peak)
        return right


def choose(peaks: list[Peak]) -> Peak:
    """The lowest peak; of those within 5 % of it the fastest."""
    lowest = min(peak.peak_bytes for peak in peaks)
    return min((p for p in peaks if p.peak_bytes <= lowest * AS_GOOD), key=lambda p: p.step_s)


def _run(graph: Path, options: Options, feeds: Path, keep: Path, kind: str) -> Peak | str:
    """One fresh process; what it said last if it fails."""
    described = keep.with_suffix(".json")
    described.write_text(json.dumps(plain(options)), encoding="utf-8")
    command = [sys.executable, "-m", "export.peak", str(graph), "--options", str(described), "--feeds", str(feeds)]
    command += ["--keep", str(keep), "--imports", *IMPORTS[kind]]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300]
    figures = json.loads(done.stdout.splitlines()[-1])
    figures = {k: v for k, v in figures.items() if k in Peak.__dataclass_fields__}
    return Peak(options, **figures)


def environment() -> dict[str, str]:
    """That of a worker: malloc gives large buffers back, and numpy has no threads of its own."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **MALLOC, **threads, "PYTHONPATH": str(ROOT)}


def machine() -> str:
    """What the figures were measured on: processor, kernel, runtime."""
    from importlib.metadata import version

    return f"{platform.machine()}, {platform.system()} {platform.release()}, onnxruntime {version('onnxruntime')}"
