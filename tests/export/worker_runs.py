"""What a worker really takes: `python -m tests.export.worker_runs BUNDLE` trains, evaluates, or generates.

Imports what `edge.worker` does, in its order; prints the peak of this process in bytes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from edge.memory import memory
from edge.worker import hash_without_openssl

ROWS, STEPS, TOKENS = 64, 3, 5


def texts(count: int) -> list[str]:
    """Words of the workloads' tokenizers, so many that a table is read all over."""
    generator = random.Random(5)
    return [" ".join(f"word{generator.randrange(15000)}" for _ in range(100)) for _ in range(count)]


def main(folder: Path) -> int:
    """One job; the peak."""
    hash_without_openssl()
    import numpy as np

    from edge.data import Row
    from edge.generate import generate
    from edge.jobs import Desk
    from edge.runner import Runner
    from edge.steps import Steps
    from edge.train import TrainSettings, train
    from wire.adapter import Adapter
    from wire.bundle import open_bundle
    from wire.kinds.head import Head
    from wire.kinds.lora import Lora

    bundle = open_bundle(folder, None)
    manifest, rank = bundle.manifest, bundle.manifest.plan.rank
    if manifest.generate is not None:
        generate(Steps([bundle]), [5, 6, 7], TOKENS)
        return memory()["peak_bytes"]
    runner = Desk(Runner(bundle, frugal=True)).runner
    assert runner is not None
    lora = {
        s.name: Lora(np.ones((s.features_in, rank), np.float32), np.zeros((rank, s.features_out), np.float32), 1.0)
        for s in manifest.slots_of("lora")
    }
    shape = (runner.head.features, len(manifest.labels))
    head = Head(np.ones(shape, np.float32), np.zeros(shape[1], np.float32))
    adapter = Adapter(manifest.model.id, "0" * 64, lora, {}, heads={0: head})
    if manifest.plan.mode == "train":
        rows = [Row(text, index % shape[1]) for index, text in enumerate(texts(ROWS))]
        train(runner, adapter, rows, TrainSettings(steps=STEPS))
    else:
        runner.forward(texts(ROWS), adapter)
    return memory()["peak_bytes"]


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
