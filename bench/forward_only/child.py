"""One process: a bundle, a way to use it, and the peak of anonymous memory; prints one line of JSON.

python -m bench.forward_only.child BUNDLE forward|spry|scales|qzo
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from edge.data.row import Row
from edge.memory import memory
from edge.runner import Runner
from edge.trainers.interface import Trainer
from edge.trainers.qzo import Qzo
from edge.trainers.spry import Spry
from edge.training.classes import Classes
from edge.training.makers import units_of
from edge.training.scales import ScaleTask
from edge.training.task import Task
from edge.training.tiers import offers, start
from export.peak import Sampler
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.kinds.head import Head
from wire.optimizers import Adam32

STEPS, ROWS, RANK, DIRECTIONS = 2, 16, 8, 3


def main(folder: Path, way: str) -> None:
    """Run and report."""
    runner = Runner(open_bundle(folder, None), frugal=True)
    manifest = runner.manifest
    given = json.loads((folder.parent / "rows.json").read_text())
    rows = [Row(text, label) for text, label in given]
    adapter = _adapter(runner)
    task: Task
    if way in ("forward", "spry"):
        task = Classes(runner, adapter, rows, backward=False)
    else:
        task = ScaleTask(runner, Adapter(manifest.model.id, heads={0: _head(runner)}), rows)
    arrays = task.start()
    loss = task.rows(range(ROWS)).loss
    if loss is None:
        raise AssertionError("a forward graph gives losses")
    before = memory()["anon_bytes"]
    sampler, began = Sampler(), time.monotonic()
    sampler.start()
    if way in ("forward", "scales"):
        for _ in range(STEPS * DIRECTIONS * 2):
            loss(arrays)
    else:
        trainer: Trainer
        if isinstance(task, ScaleTask):
            trainer = Qzo(1, task.units, directions=DIRECTIONS)
        else:
            trainer = Spry(1, units_of(manifest, arrays), directions=DIRECTIONS, optimizer=Adam32())
        state = trainer.begin(arrays)
        for _ in range(STEPS):
            made = trainer.step(arrays, state, task.rows(range(ROWS)))
            arrays, state = made.arrays, made.state
    sampler.stop()
    count = sum(array.size for array in arrays.values())
    seconds = time.monotonic() - began
    print(json.dumps({"peak": sampler.peak_bytes, "before": before, "parameters": count, "seconds": seconds}))


def _adapter(runner: Runner) -> Adapter:
    largest = offers(runner.manifest, ("lora",), RANK)[-1]
    made = start(runner.manifest, largest)
    return Adapter(made.model, lora=made.lora, heads={made.rank: _head(runner)})


def _head(runner: Runner) -> Head:
    drawn = np.random.default_rng(0)
    size = (runner.head.features, len(runner.manifest.labels))
    return Head(drawn.normal(size=size).astype(np.float32), np.zeros(size[1], np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
