"""Some graphs open in one process: `python -m bench.open_graphs SPEC.json`; prints one line of JSON.

Every graph has a session of its own, which runs twice and stays open. What is read at the end lies above the process
before the first session, with what is fed in it already. Imports numpy and onnxruntime only. Linux only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from export.peak import session_options, status_bytes, touch_weights

RUNS = 2
FIELDS = {"anonymous": ("RssAnon", "status"), "file": ("RssFile", "status"), "pss": ("Pss", "smaps_rollup")}


def taken() -> dict[str, int]:
    """What this process takes now, in bytes: without a file behind it, with one, and its share of what is mapped."""
    return {name: status_bytes(*where) for name, where in FIELDS.items()}


def main(spec: Path) -> int:
    """Open and run what the file lists: `graph`, `options` and `feeds` (.npz) of each."""
    given = json.loads(spec.read_text(encoding="utf-8"))
    fed = []
    for one in given:
        with np.load(one["feeds"]) as file:
            fed.append({name: file[name] for name in file.files})
    before, sessions = taken(), list[Any]()
    for one, feeds in zip(given, fed, strict=True):
        options = session_options(one["options"])
        sessions.append(ort.InferenceSession(one["graph"], options, providers=["CPUExecutionProvider"]))
        for _ in range(RUNS):
            sessions[-1].run(None, feeds)
    touch_weights(Path(given[0]["graph"]).parent)
    after = taken()
    print(json.dumps({name: after[name] - before[name] for name in FIELDS}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
