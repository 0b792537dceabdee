"""A round of many updates through one hub: `python -m bench.hub_load [--updates N] [--slots attention|all]`.

Boards of ranks 2, 4, 4, 8 and 16 send adapters of a MiniLM over the in-memory transport, each signed with a key of
its own; the hub is a real one, with its ledger and its blobs on disk, in a process of its own. The boards are in the
same process, one update at a time, so what they take counts as the hub's. `attention` is what an export of
all-MiniLM-L6-v2 has, query and value of its upper three blocks and as much again; `all` is every linear layer of
twelve blocks, 72 slots. Bar: less than 150 MiB in all, imports included. Linux only: it reads /proc.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from console.table import mib, table
from edge.memory import AnonymousPeak, memory
from wire.files import write_atomic

RANKS = (2, 4, 4, 8, 16)
SIDE, INNER, FEATURES, LABELS = 384, 1536, 384, ("no", "yes")
ATTENTION = {f"attention.self.{name}": (SIDE, SIDE) for name in ("query", "value")}
OTHERS = {
    "attention.self.key": (SIDE, SIDE),
    "attention.output.dense": (SIDE, SIDE),
    "intermediate.dense": (SIDE, INNER),
    "output.dense": (INNER, SIDE),
}
SAMPLE_EVERY_S = 0.002


def main() -> int:
    """Run the child, print, write."""
    p = argparse.ArgumentParser(description="A round of many updates through one hub.")
    p.add_argument("--updates", type=int, default=1000)
    p.add_argument("--slots", choices=("attention", "all"), default="all")
    p.add_argument("--out", type=Path, default=Path("build/bench/hub_load.json"))
    p.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.child:
        print(json.dumps(measured(options.child, options.updates, slots_of(options.slots))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.hub_load", "--child", folder]
        own = subprocess.run(
            [*command, "--updates", str(options.updates), "--slots", options.slots],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found = json.loads(own.stdout)
    print(table(["what", "measured"], lines(found)))
    write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def slots_of(kind: str) -> dict[str, tuple[int, int]]:
    """Slots by name: inputs and outputs."""
    layers = ATTENTION if kind == "attention" else {**ATTENTION, **OTHERS}
    blocks = range(6) if kind == "attention" else range(12)
    return {f"encoder.layer.{block}.{name}": shape for block in blocks for name, shape in layers.items()}


def lines(found: dict[str, Any]) -> list[list[str]]:
    """What was measured, for people."""
    count = found["updates"]
    return [
        ["updates", f"{count}, {found['slots']} slots, {mib(found['sent_bytes'])} in all"],
        ["peak in all (VmHWM)", f"{mib(found['peak_bytes'])} (bar: 150)"],
        ["anonymous part at its peak", mib(found["anonymous_peak_bytes"])],
        ["after imports, in all", mib(found["imports_bytes"])],
        ["peak while updates arrive", mib(found["arriving_peak_bytes"])],
        ["an update, seconds", f"{found['arriving_s'] / count:.4f}"],
        ["an update, seconds of the processor", f"{found['arriving_cpu_s'] / count:.4f}"],
        ["the aggregate, seconds", f"{found['making_s']:.1f}"],
        ["the aggregate, seconds of the processor", f"{found['making_cpu_s']:.1f}"],
    ]


def measured(folder: Path, updates: int, slots: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """One round in this process."""
    import hub.serving.process  # noqa: F401  # what `hub up` runs is loaded too
    from bench.hub_boards import Boards, made_hub

    imports = memory()["peak_bytes"]
    made_hub(folder, slots, LABELS, FEATURES)
    anonymous = AnonymousPeak(SAMPLE_EVERY_S)
    boards = Boards(folder, slots, [RANKS[i % len(RANKS)] for i in range(updates)])
    boards.greet()
    boards.open()
    arriving = Clock()
    sent = sum(boards.send(index) for index in range(updates - 1))
    arrived, arriving_peak = arriving.stop(), memory()["peak_bytes"]
    making = Clock()
    sent += boards.send(updates - 1)  # the last update closes the round: the hub makes its version
    boards.settled()
    made = making.stop()
    anonymous_peak = anonymous.stop()
    return {
        "updates": updates,
        "slots": len(slots),
        "sent_bytes": sent,
        "imports_bytes": imports,
        "arriving_peak_bytes": arriving_peak,
        "peak_bytes": memory()["peak_bytes"],
        "anonymous_peak_bytes": anonymous_peak,
        "arriving_s": arrived[0],
        "arriving_cpu_s": arrived[1],
        "making_s": made[0],
        "making_cpu_s": made[1],
        "generating_cpu_s": boards.generating_cpu_s,
    }


class Clock:
    """Seconds, and seconds of the processor."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        """Since it was made."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


if __name__ == "__main__":
    sys.exit(main())
