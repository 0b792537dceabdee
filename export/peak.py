"""One graph in a process of its own: how much memory it takes and how long a step lasts.

Run as `python -m export.peak GRAPH --options FILE.json --feeds FILE.npz`; prints one line of JSON. Imports
what a worker imports and nothing else, so that the figures are a worker's. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

RUNS = 3
SAMPLE_EVERY_S = 0.0015
PAGE_BYTES = 4096
OPTIMIZATION = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
ORDER = {"default": ort.ExecutionOrder.DEFAULT, "priority": ort.ExecutionOrder.PRIORITY_BASED}
ERRORS_ONLY = 3


def session_options(options: dict[str, Any]) -> ort.SessionOptions:
    """What onnxruntime calls options, from the manifest's (`wire.manifest.Options` as a mapping), one thread."""
    out = ort.SessionOptions()
    out.graph_optimization_level = OPTIMIZATION[options["graph_optimization"]]
    out.execution_order = ORDER[options["execution_order"]]
    out.enable_mem_pattern = options["memory_pattern"]
    out.enable_cpu_mem_arena = options["cpu_arena"]
    out.intra_op_num_threads = out.inter_op_num_threads = 1
    out.log_severity_level = ERRORS_ONLY
    for key, value in options["config"].items():
        out.add_session_config_entry(key, value)
    return out


def status_bytes(field: str, file: str = "status") -> int:
    """A field of /proc/self/status (VmHWM, RssAnon, RssFile) or of /proc/self/smaps_rollup (Pss)."""
    with (Path("/proc/self") / file).open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


class Sampler:
    """Follows RssAnon in a thread; the kernel keeps a high-water mark of all memory, but none of this part."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.peak_bytes = max(self.peak_bytes, status_bytes("RssAnon"))

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End, with a last look."""
        self._stop.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, status_bytes("RssAnon"))


def touch_weights(folder: Path) -> None:
    """Read a byte of every page of the files of a folder that this process has mapped.

    A run reads a few rows of an embedding table; after some thousand examples all of it was read.
    """
    inside = f"{folder.resolve()}/"
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
        mapped = [line.split(maxsplit=5) for line in lines if inside in line]
    for addresses, rights, *_ in mapped:
        begin, end = (int(part, 16) for part in addresses.split("-"))
        for address in range(begin, end, PAGE_BYTES) if rights.startswith("r") else ():
            ctypes.string_at(address, 1)


def _read_once() -> None:
    """Have numpy load what it reads files with, which is no part of what is fed."""
    file = io.BytesIO()
    np.savez(file, x=np.zeros(1))
    file.seek(0)
    with np.load(file) as kept:
        kept["x"]


def measure(graph: Path, options: dict[str, Any], given: Path, keep: Path | None) -> dict[str, Any]:
    """Load what is fed and the graph, run three times, report bytes and the fastest of the warm runs in seconds.

    PSS is read after the last run: the kernel keeps no high-water mark of it, and reading it takes long.
    """
    _read_once()
    base = {"base_bytes": status_bytes("VmHWM"), "base_anon_bytes": status_bytes("RssAnon")}
    base["base_pss_bytes"] = status_bytes("Pss", "smaps_rollup")
    with np.load(given) as file:
        feeds = {name: file[name] for name in file.files}
    steps = []
    sampler = Sampler()
    sampler.start()
    session = ort.InferenceSession(str(graph), session_options(options), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    loaded = {"loaded_bytes": status_bytes("VmHWM"), "loaded_anon_bytes": status_bytes("RssAnon")}
    values: list[Any] = []
    for run in range(RUNS):
        values.clear()  # they lie in the session's arena
        if run == 1:
            touch_weights(graph.parent)
        started = time.perf_counter()
        values.extend(session.run(names, feeds))
        steps.append(time.perf_counter() - started)
    sampler.stop()
    figures = {"peak_bytes": status_bytes("VmHWM"), "peak_anon_bytes": sampler.peak_bytes}
    figures["pss_bytes"] = status_bytes("Pss", "smaps_rollup")
    if keep is not None:
        np.savez(keep, **dict(zip(names, values, strict=True)))
    return {**base, **loaded, **figures, "step_s": min(steps[1:])}


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.peak")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--options", type=Path, required=True, help="the manifest's options of this graph, as JSON")
    parser.add_argument("--feeds", type=Path, required=True, help="every input by its name, as .npz")
    parser.add_argument("--keep", type=Path, help="where the outputs go, as .npz")
    parser.add_argument("--imports", nargs="*", default=[], help="what the worker imports besides, if it is there")
    given = parser.parse_args(arguments)
    for name in given.imports:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    options = json.loads(given.options.read_text(encoding="utf-8"))
    print(json.dumps(measure(given.graph, options, given.feeds, given.keep)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
