"""What single kernels really take: graphs named on the command line are run in this process, one line of JSON each.

Without an arena and with malloc set as for workers, every large buffer is a mapping of its own, so that the
high-water mark above what is resident between two runs is what the second run allocates.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.peak import session_options, status_bytes

TYPES = {"float": np.float32, "int64": np.int64, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_}
OPTIONS = {
    "graph_optimization": "disable",
    "execution_order": "priority",
    "memory_pattern": False,
    "cpu_arena": False,
    "config": {"session.disable_prepacking": "1"},
}


def taken_bytes(path: str) -> int:
    """What a run of a graph takes above what is resident before it; the middle of three, after a first one."""
    session = ort.InferenceSession(path, session_options(OPTIONS), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    feeds = {v.name: np.ones(v.shape, TYPES[v.type[7:-1]]) for v in session.get_inputs()}
    session.run(names, feeds)
    found = []
    for _ in range(3):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = status_bytes("VmRSS")
        session.run(names, feeds)
        found.append(status_bytes("VmHWM") - before)
    return int(statistics.median(found))


if __name__ == "__main__":
    for graph in sys.argv[1:]:
        print(json.dumps({"graph": Path(graph).name, "taken_bytes": taken_bytes(graph)}))
