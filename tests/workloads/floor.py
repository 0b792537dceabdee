"""Rows of graphs, run by an interpreter that has numpy and onnxruntime only: boards with an older runtime.

Run as `python -m tests.workloads.floor FOLDER...`. In each FOLDER, `row.json` names the graphs with their options in
running order and the states as pairs, `N.in.npz` what is fed to run N; `N.out.npz` gets what run N computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300
Values = dict[str, Any]


def write_row(
    folder: Path, graphs: Sequence[tuple[Path, Any]], states: Sequence[tuple[str, str]], runs: Sequence[Values]
) -> None:
    """What one row is: files with their options, states, and what is fed; states before the first run are fed too."""
    folder.mkdir(parents=True)
    described = {"graphs": [[str(path), options] for path, options in graphs], "states": list(states)}
    (folder / "row.json").write_text(json.dumps(described), encoding="utf-8")
    for number, feeds in enumerate(runs):
        np.savez(folder / f"{number}.in.npz", **feeds)


def run_rows(python: Path, folders: Sequence[Path]) -> tuple[str, list[list[Values]]]:
    """Version of an interpreter's runtime, and what it computes, row by row and run by run."""
    command = [str(python), "-m", "tests.workloads.floor", *map(str, folders)]
    plain = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip(), [[read(path) for path in sorted(row.glob("*.out.npz"))] for row in folders]


def read(path: Path) -> Values:
    """All arrays of a file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def run_row(folder: Path) -> None:
    """All runs of a row; what one run leaves as a state, the next one is fed."""
    import onnxruntime as ort

    from export.peak import session_options

    described = json.loads((folder / "row.json").read_text(encoding="utf-8"))
    sessions = [
        ort.InferenceSession(path, session_options(options), providers=["CPUExecutionProvider"])
        for path, options in described["graphs"]
    ]
    held: Values = {}
    for path in sorted(folder.glob("*.in.npz")):
        values, made = {**held, **read(path)}, Values()
        for session in sessions:
            names = [value.name for value in session.get_outputs()]
            fed = {value.name: values[value.name] for value in session.get_inputs()}
            made |= dict(zip(names, session.run(names, fed), strict=True))
            values |= made
        held = {given: made[returned] for given, returned in described["states"]}
        np.savez(folder / path.name.replace(".in.", ".out."), **made)


if __name__ == "__main__":
    import onnxruntime

    for row in sys.argv[1:]:
        run_row(Path(row))
    print(onnxruntime.__version__)
