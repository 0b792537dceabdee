"""QZO as it comes, without tuning, on an encoder in int4 and nf4: does any of five seeds diverge?"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.forward_only.encoders import LABELS, exported, rows
from edge.runner import Runner
from edge.trainers.qzo import Qzo
from edge.training.heads import closed_head
from edge.training.order import batches
from edge.training.scales import ScaleTask, small
from wire.adapter import Adapter, to_bytes
from wire.bundle import open_bundle
from wire.philox import key_of

SEEDS, STEPS, BATCH, DIRECTIONS = 5, 60, 16, 4
DIVERGED = 1.1  # a loss above so many times the first


def seeds(folder: Path) -> list[dict[str, Any]]:
    """A row for each format: losses on the training rows before and after, the worst seed, and bytes to send."""
    out = []
    for quant in ("int4", "nf4"):
        runner = Runner(open_bundle(exported(folder / f"scales-{quant}", quant, 64, 2, 16), None))
        found = [_trained(runner, seed) for seed in range(SEEDS)]
        runner.close()
        first, last = (np.array([one[key] for one in found]) for key in ("first", "last"))
        fine = bool(np.isfinite(last).all() and (last < DIVERGED * first).all())
        row: dict[str, Any] = {
            "format": quant,
            "factors": found[0]["factors"],
            "steps": STEPS,
            "directions": DIRECTIONS,
        }
        row |= {"first loss": float(first.mean()), "last loss": float(last.mean())}
        row |= {"worst share left": float((last / first).max())}
        row |= {"bytes sent": int(np.mean([one["bytes"] for one in found])), "seeds": SEEDS}
        out.append(
            {
                **row,
                "learned": int((last < first).sum()),
                "diverged": int((~(last < DIVERGED * first)).sum()),
                "bar": "met" if fine else "missed",
            }
        )
    return out


def _trained(runner: Runner, seed: int) -> dict[str, float]:
    """Scales below a head in closed form of a few rows, which leaves something to gain."""
    train = rows(96, seed, 10)
    features = runner.forward([row.sample for row in train[:6]]).features
    labels = np.array([row.label for row in train[:6]])
    head = closed_head(features, labels, len(LABELS), recipes=("ridge",)).head
    task = ScaleTask(runner, Adapter(runner.manifest.model.id, heads={0: head}), train)
    qzo = Qzo(key_of("seed", seed), task.units, directions=DIRECTIONS)
    arrays = task.start()
    state = qzo.begin(arrays)
    whole = task.rows(range(len(task))).loss
    if whole is None:
        raise AssertionError("a forward graph gives losses")
    first = whole(arrays)
    for chosen in islice(batches(len(task), BATCH, seed), STEPS):
        made = qzo.step(arrays, state, task.rows(chosen))
        arrays, state = made.arrays, made.state
    update = qzo.update(arrays, state)
    sent = len(to_bytes(small(task.adapter(arrays), update)))
    count = sum(array.size for array in arrays.values())
    return {"first": first, "last": whole(arrays), "factors": count, "bytes": sent}
