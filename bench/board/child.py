"""One process that works as a worker does: a bundle, a way to use it, some steps; prints one line of JSON.

    python -m bench.board.child BUNDLE backprop|spry|qzo|inference --steps N --rows N --rank N [--cache FILE]

A step of `inference` is one forward of the rows that the others learn from, with their adapter. A bundle of several
segments opens a session for each of them in every pass: that is timed apart, and the bytes of its files are added up.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.worker import hash_without_openssl

hash_without_openssl()  # before anything else imports hashlib, as in a worker

import edge.jobs  # noqa: F401  # all that a worker has imported before its first job
from bench.board.texts import sentences
from edge.chain import Chain
from edge.memory import AnonymousPeak, memory
from edge.runner import Runner
from edge.runtime import Session
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Array, Rows, Trainer
from edge.trainers.qzo import Qzo
from edge.trainers.spry import Spry
from edge.training.makers import units_of
from edge.training.passages import Passage
from edge.training.scales import factors_of
from edge.training.tiers import offers, start
from edge.training.tokens import NextTokens
from edge.trunk import keep
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.manifest import Graph
from wire.optimizers import Adam32

WAYS = ("inference", "backprop", "spry", "qzo")
DIRECTIONS = 1  # of forward-only trainers: two forward passes a step
CACHE_BYTES = 256 << 20


class Clocked(Chain):
    """Adds up what sessions cost to open: seconds of the processor, and bytes of graphs and of their weights."""

    opening_s = 0.0
    opened_bytes = 0

    def _session(self, graph: Graph) -> Session:
        before, began = set(self.sessions.open), time.process_time()
        session = super()._session(graph)
        if graph.file not in before:
            self.opening_s += time.process_time() - began
            path = self.bundle.path(graph.file)
            weights = path.parent.glob(f"{path.name.partition('.')[0]}.*.bin")
            self.opened_bytes += sum(file.stat().st_size for file in (path, *weights))
        return session


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    print(json.dumps(measured(options)), flush=True)
    return 0


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes of the process, and of every step its loss and its seconds, of the processor and of the clock."""
    base, watch = memory(), AnonymousPeak()
    runner = Runner(open_bundle(options.bundle, None), threads=1, frugal=True)
    runner.chain = chain = Clocked(runner.bundle)
    if options.cache is not None:
        keep(chain, options.cache, CACHE_BYTES)
    task = task_of(runner, options.way, options.rows, options.rank)
    arrays = task.start()
    step, steps = stepper(runner, task, options.way, arrays), list[dict[str, Any]]()
    for _ in range(options.steps):
        opening_s, opened_bytes = chain.opening_s, chain.opened_bytes
        began, processor = time.perf_counter(), time.process_time()
        loss = step()
        took = {"seconds": time.process_time() - processor, "wall_s": time.perf_counter() - began, "loss": loss}
        opened = {"opening_s": chain.opening_s - opening_s, "opened_bytes": chain.opened_bytes - opened_bytes}
        steps.append({**took, **opened})
    anonymous = watch.stop()
    return {
        "base_bytes": base["peak_bytes"],
        "peak_bytes": memory()["peak_bytes"],
        "anon_bytes": anonymous,
        "pss_bytes": pss_bytes(),
        "learned": sum(array.size for array in arrays.values()),
        "segments": len(runner.manifest.segments),
        "micro_batch": task.bucket.batch,
        "steps": steps,
    }


def task_of(runner: Runner, way: str, rows: int, rank: int) -> NextTokens:
    """What a way learns: factors at the rank, or factors of all scales."""
    passages, manifest = [Passage(text) for text in sentences(rows)], runner.manifest
    if way == "qzo":
        bare = Adapter(manifest.model.id)
        return NextTokens(runner, bare, passages, scales=factors_of(manifest, bare))
    adapter = start(manifest, offers(manifest, ("lora",), rank)[-1])
    return NextTokens(runner, adapter, passages, backward=way == "backprop")


def stepper(runner: Runner, task: NextTokens, way: str, arrays: Mapping[str, Array]) -> Callable[[], float]:
    """A step on all rows, which gives its mean loss: of forward-only trainers that of both sides of a direction."""
    every = range(len(task))
    if way == "inference":
        return lambda: _loss(task.rows(every), arrays)
    trainer = trainer_of(runner, way, arrays)
    now = [(dict(arrays), trainer.begin(arrays))]

    def step() -> float:
        stepped = trainer.step(*now[0], task.rows(every))
        now[0] = (stepped.arrays, stepped.state)
        return float("nan") if stepped.loss is None else stepped.loss

    return step


def trainer_of(runner: Runner, way: str, arrays: Mapping[str, Array]) -> Trainer:
    """With the settings that `edgequilt train` takes, but for the directions."""
    manifest = runner.manifest
    if way == "backprop":
        return Backprop(tuple(arrays), Adam32())
    if way == "spry":
        return Spry(1, units_of(manifest, arrays), directions=DIRECTIONS, optimizer=Adam32())
    moved = {one.weight: [one.input] for one in manifest.scales if one.input in arrays}
    return Qzo(1, moved, directions=DIRECTIONS)


def _loss(rows: Rows, arrays: Mapping[str, Array]) -> float:
    if rows.loss is None:
        raise AssertionError("a forward graph gives losses")
    return rows.loss(arrays)


def pss_bytes() -> int:
    """Of this process now; the kernel keeps no peak of it."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    raise SystemExit(main())
