"""A hub alone, and with workers: `python -m bench.hub_workers [--size SIZE] [--boards N] [--workers N] [--repeats N]`.

All boards send at once, over a bare mosquitto and a PostgreSQL of the bench's own that syncs its commits; nothing is
bound to a core. The arms take turns on the same hub: alone, with workers, alone, and so on. The boards take their part
of the same cores. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.load import hub as h
from bench.load.brokers import bare
from bench.load.processes import child, cpu_s, first_line, machine
from bench.load.results import drawn, keep, spread
from bench.load.sampler import sampled
from bench.transport.measure import HubSide
from tests.postgres import cluster
from tests.programs import postgres

ARMS = ("alone", "with workers")
SYNCED = ("shared_buffers=64MB",)  # and all else as PostgreSQL has it


def main() -> int:
    """Measure, write, print."""
    p = argparse.ArgumentParser(description="A hub alone, and with workers.")
    p.add_argument("--size", choices=sorted(h.SHAPES), default=h.MIDDLE.name)
    p.add_argument("--boards", type=int, default=40)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", type=Path, default=Path("build/bench/hub_workers.json"))
    options = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), h.SHAPES[options.size], options.boards, options.workers, options.repeats)
    keep(options.out, f"{options.size} {options.boards} boards", {**found, "machine": machine()})
    print(table(found))
    return 0


def measured(folder: Path, shape: h.Shape, boards: int, workers: int, repeats: int) -> dict[str, Any]:
    """Updates per second and processor time, arm by arm, after one turn that does not count."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with ExitStack() as stack:
        database = stack.enter_context(cluster(postgres(), SYNCED))
        keys = h.make(folder, shape, boards + 1, database=database.prepared())
        hub = stack.enter_context(h.running(folder / "hub", stack.enter_context(bare(folder, None)), None))
        series = folder / "series"
        stack.enter_context(sampled(series, hub.hub_pid, hub.broker_pid))
        side = HubSide(folder, shape, boards, hub, keys)
        stack.callback(side.crowd.close)
        side.turn(series, at_once=True)
        for _ in range(repeats):
            for arm in ARMS:
                with helpers(side, workers if arm == ARMS[1] else 0) as pids:
                    before = sum(map(cpu_s, pids))
                    turn = side.turn(series, at_once=True)
                    spent = sum(map(cpu_s, pids)) - before
                found[arm].append({**vars(turn), "workers_cpu_s": spent, "per_s": turn.updates / turn.wall_s})
    size = len(shape.update("0" * 64, 0))
    return {"update_bytes": size, "boards": boards, "workers": workers, "turns": found}


@contextmanager
def helpers(side: HubSide, count: int) -> Iterator[list[int]]:
    """So many workers, as long as the block; the hub knows of them, and afterwards that they are gone."""
    command = [sys.executable, "edgequilt.py", "hub", "worker", str(side.hub.folder), "--json"]
    with ExitStack() as stack:
        started = [stack.enter_context(child(command, None, stdout=-1)) for _ in range(count)]
        if not all(map(first_line, started)):
            raise RuntimeError("expected workers to start, they did not")
        wait(side, count)
        yield [process.pid for process in started]
    wait(side, 0)


def wait(side: HubSide, count: int) -> None:
    """Until the hub knows of so many workers, and the broker of what it listens to now."""
    ask = lambda: len(side.hub.ask(request="status")["workers"]) == count  # noqa: E731  # said once
    side.crowd.until(ask, h.START_S, f"{count} workers")
    ends = time.monotonic() + 0.5
    side.crowd.until(lambda: time.monotonic() > ends, 2.0, "a moment")


def table(found: dict[str, Any]) -> str:
    """What was measured, for people."""
    rows = []
    for arm, turns in found["turns"].items():
        cells = [spread([turn[key] for turn in turns]) for key in ("per_s", "p50_s", "p95_s", "server_cpu_s")]
        rows.append(
            [arm, *cells, spread([t["workers_cpu_s"] for t in turns]), str(sum(t["asked_again"] for t in turns))]
        )
    ratio = [b["per_s"] / a["per_s"] for a, b in zip(*found["turns"].values(), strict=True)]
    header = ["hub", "updates/s", "p50 s", "p95 s", "hub CPU s", "workers CPU s", "asked again"]
    text = drawn(header, rows, markdown=False)
    return f"{text}\n{found['boards']} boards x {found['update_bytes']} bytes; ratio {statistics.median(ratio):.2f}"


if __name__ == "__main__":
    sys.exit(main())
