"""One run as `edgequilt train` makes it, and how many rows of the test set its adapter gets right."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.data.row import Data, Row
from edge.runner import Ready, Runner
from edge.training.conduct import Ended, Hooks, Run
from edge.training.saver import Saver
from edge.training.source import Source
from edge.training.wish import Wish
from edge.trunk import keep
from wire.adapter import Adapter
from wire.bundle import open_bundle

CACHE_BYTES = 1 << 30
KEPT_BACK = 10  # one row in so many is not trained on, as the command does


@dataclass
class Bench:
    """A bundle with the rows of a data set; activations below the lowest slot are kept over all runs.

    Attributes:
        runner: of the bundle.
        train: rows to draw from.
        test: rows that no run sees.
    """

    runner: Runner
    train: Sequence[Row]
    test: Sequence[Row]
    _ready: Ready | None = field(default=None)

    def accuracy(self, adapter: Adapter) -> float:
        """Share of the test set that is right."""
        if self._ready is None:
            self._ready = self.runner.ready([row.sample for row in self.test])
        logits = self.runner.forward(self._ready, adapter).logits
        return float(np.mean(logits.argmax(axis=1) == np.array([row.label for row in self.test])))

    def run(self, rows: int, seed: int, asked: dict[str, Any]) -> dict[str, Any]:
        """Train on rows drawn by a seed; accuracy, passes of rows through graphs, and seconds."""
        data, started = drawn(self.train, rows, seed), time.monotonic()
        wish = Wish(**{"force": True, "seed": seed, **asked})
        ended = Run(Source(self.runner, data), wish, Saver(None, 1e9, lambda words: None), Hooks()).conduct()
        found = {"rows": rows, "seed": seed, "accuracy": self.accuracy(ended.adapter)}
        spent = passes(ended, wish, len(data.train), len(data.holdout))
        took = {"seconds": round(time.monotonic() - started, 1), "trainer": ended.trainer, "tier": ended.trained}
        return {**found, **spent, **took, "parameters": ended.parameters, **looks(ended)}


@contextmanager
def opened(bundle: Path, train: Sequence[Row], test: Sequence[Row], cache: Path) -> Iterator[Bench]:
    """A bench of a bundle; its cache is removed at the end."""
    runner = Runner(open_bundle(bundle, None), 1)
    if len(runner.manifest.segments) > 1:
        keep(runner.chain, cache, CACHE_BYTES)
    try:
        yield Bench(runner, train, test)
    finally:
        runner.close()
        cache.unlink(missing_ok=True)


def drawn(rows: Sequence[Row], count: int, seed: int) -> Data:
    """So many rows, and which of them are kept back: by classes in turn, so that every class is on both sides.

    >>> data = drawn([Row(i, i % 2) for i in range(100)], 20, 0)
    >>> len(data.train), sorted(row.label for row in data.holdout)
    (18, [0, 1])
    """
    chosen = random.Random(seed).sample(list(rows), min(count, len(rows)))  # noqa: S311  # repeatable, not a secret
    chosen.sort(key=lambda row: row.label)  # stable: within a class in the order drawn
    held = set(range(KEPT_BACK // 2, len(chosen), KEPT_BACK))
    train = [row for i, row in enumerate(chosen) if i not in held]
    return Data(tuple(train), tuple(chosen[i] for i in sorted(held)))


def passes(ended: Ended, wish: Wish, rows: int, kept_back: int) -> dict[str, int]:
    """Rows that went through the forward graphs and through the backward graphs, the closed head's among them.

    Where a trunk is kept, a pass is of what lies above it.
    """
    forward, backward, session = rows, 0, ended.session
    if session is not None:
        stepped = session.at * min(wish.batch, rows)
        forward += len(session.looks) * kept_back
        if ended.trainer == "backprop":
            backward = stepped
        else:
            directions = wish.directions if session.course is None else session.course.directions or wish.directions
            forward += 2 * directions * stepped
    return {"forward": forward, "backward": backward}


def looks(ended: Ended) -> dict[str, Any]:
    """Where a session's looks at rows kept back began, were best, and ended."""
    session = ended.session
    if session is None or not session.looks:
        return {}
    losses = [look.score.loss for look in session.looks]
    best = int(np.argmin(losses))
    return {
        "steps": session.at,
        "loss": [round(loss, 4) for loss in (losses[0], losses[best], losses[-1])],
        "best": session.looks[best].step,
    }
