"""What forward-only training costs and gives: `python -m bench.forward_only [--only PART ...] [--out FILE.json]`.

* memory: the peak of anonymous memory of a process that takes steps of forward gradients, or of steps on scales,
  against one that runs the same graph on the same rows (bar: 1.1), on an encoder with random weights made here.
* cosine: of forward gradients with the true gradient, against sqrt(K / P).
* dealing: units dealt to boards or held by all, steps taken together (per iteration) or apart (per epoch), at equal
  numbers of forward passes.
* scales: QZO as it comes on an encoder in int4 and nf4, over five seeds.

Everything is made here, in about five minutes of one core; nothing is read but this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.forward_only import dealing, memory, scales
from console.table import table
from wire.files import write_atomic

Rows = list[dict[str, Any]]
PARTS: dict[str, Callable[[Path], Rows]] = {
    "memory": memory.measured,
    "cosine": dealing.cosines,
    "dealing": dealing.dealt,
    "scales": scales.seeds,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a bar is missed."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--only", nargs="*", choices=tuple(PARTS), default=tuple(PARTS))
    p.add_argument("--out", type=Path, default=Path("build/bench/forward_only.json"))
    options = p.parse_args(argv)
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            found[name] = PARTS[name](Path(folder))
            header = list(found[name][0])
            lines = table(header, [[_short(row[key]) for key in header] for row in found[name]])
            print(f"{name}\n{lines}\n", flush=True)
    write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
    missed = [row for rows in found.values() for row in rows if row.get("bar") == "missed"]
    return 1 if missed else 0


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
