"""Bent inputs through every door for bytes from outside: `python -m bench.fuzz [--inputs N] [--only NAME]`.

One process, one door after another; the same seed gives the same inputs. Bars: no crash, no hang of more than a second
for at most 64 KiB, and no door takes more memory than tests/fuzz/decoders.py allows it.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when numpy is loaded

import argparse
import json
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

from console.table import mib, table
from tests.fuzz.decoders import DECODERS
from tests.fuzz.run import Found, file_name, fuzz, name_of
from wire.files import write_atomic

MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of our own is made there: files are written a million times


def main() -> int:
    """Fuzz, print, write."""
    parser = argparse.ArgumentParser(description="Bent inputs through every door for bytes from outside.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: 1)")
    parser.add_argument("--only", default="", help="doors whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("build/bench/fuzz.json"))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chosen = [decoder for decoder in DECODERS if options.only in decoder.name]
    whole, found = sum(decoder.weight for decoder in chosen), []
    for decoder in chosen:
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            count = math.ceil(options.inputs * decoder.weight / whole)
            found.append(fuzz(decoder, Path(folder), count, options.seed))
        print(_line(found[-1]), flush=True)
    keep(options.out.parent / "crashes", found)
    print(text(found))
    write_atomic(options.out, json.dumps([plain(one) for one in found], indent=1).encode() + b"\n")
    return 1 if any(one.crashed for one in found) else 0


def text(found: list[Found]) -> str:
    """A table, and what all doors come to."""
    total, seconds = sum(one.inputs for one in found), sum(one.seconds for one in found)
    crashed = sum(one.crashed for one in found)
    rows = [
        (
            one.name,
            f"{one.inputs:,}",
            f"{one.inputs / max(one.seconds, 1e-9):,.0f}",
            f"{one.refused:,}",
            f"{one.accepted:,}",
            str(one.crashed),
            f"{one.slowest_s * 1e3:.0f}",
            mib(one.most_bytes),
        )
        for one in found
    ]
    heads = ("door", "inputs", "per second", "refused", "accepted", "crashes", "slowest, ms", "most memory")
    return f"{table(heads, rows)}\n{total:,} inputs, {crashed} crashes, {seconds:.0f} s inside the doors"


def plain(one: Found) -> dict[str, Any]:
    """What is written of a door."""
    return {
        "door": one.name,
        "inputs": one.inputs,
        "seconds": one.seconds,
        "refused": one.refused,
        "accepted": one.accepted,
        "crashes": {what: name_of(data) for what, data in one.crashes.items()},
        "slowest_s": one.slowest_s,
        "slowest": name_of(one.slowest),
        "memory_bytes": one.most_bytes,
        "most_memory": name_of(one.most),
    }


def keep(folder: Path, found: list[Found]) -> None:
    """The inputs that a door crashed on, as files."""
    for one in found:
        for what, data in one.crashes.items():
            write_atomic(folder / f"{file_name(one.name)}-{name_of(data)[:12]}", data)
            print(f"{one.name}: {what}: {name_of(data)}")


def _line(one: Found) -> str:
    return f"{one.name}: {one.inputs:,} inputs, {one.crashed} crashes"


if __name__ == "__main__":
    raise SystemExit(main())
