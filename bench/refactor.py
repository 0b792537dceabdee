"""Re-factoring an aggregate against a full SVD of the same matrix: `python -m bench.refactor [--out FILE.json]`.

2048 x 2048, 32 boards of rank 8 and the ladder of rank 16 that was sent, hub rank 16, one BLAS thread, float64.
Both ways alternate; medians. The bar: at least 30 times faster, the same to 1e-6.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when numpy is loaded

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from console.table import table
from hub.aggregation import stacking
from wire.files import write_atomic
from wire.kinds.lora import Lora
from wire.ladder import Factored

SIDE, BOARDS, BOARD_RANK, HUB_RANK, TURNS = 2048, 32, 8, 16, 3


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Re-factoring against a full SVD.")
    parser.add_argument("--out", type=Path, default=Path("build/bench/refactor.json"))
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    sent = _lora(generator, HUB_RANK)
    boards = [_lora(generator, BOARD_RANK) for _ in range(BOARDS)]
    seconds: dict[str, list[float]] = {"re-factored": [], "full SVD": []}
    for _ in range(TURNS):
        thin = _timed(seconds["re-factored"], lambda: _refactored(sent, boards))
        whole = _timed(seconds["full SVD"], lambda: _dense(sent, boards))
    ours = (thin.u * thin.s) @ thin.vt
    best = (whole[0][:, :HUB_RANK] * whole[1][:HUB_RANK]) @ whole[2][:HUB_RANK]
    difference = float(np.linalg.norm(ours - best) / np.linalg.norm(best))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = median["full SVD"] / median["re-factored"]
    rows = [[name, f"{median[name]:.3f}", ", ".join(f"{v:.3f}" for v in values)] for name, values in seconds.items()]
    print(table(["way", "median s", "all"], rows))
    print(f"\n{ratio:.1f} times faster (bar: 30), relative difference {difference:.1e} (bar: 1e-6)")
    found = {"seconds": seconds, "median_s": median, "ratio": ratio, "relative_difference": difference}
    write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def _lora(generator: np.random.Generator, rank: int) -> Lora:
    a, b = generator.standard_normal((SIDE, rank)), generator.standard_normal((rank, SIDE))
    return Lora(a.astype(np.float32), b.astype(np.float32), 2.0)


def _timed(into: list[float], work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    into.append(time.perf_counter() - started)
    return result


def _refactored(sent: Lora, boards: list[Lora]) -> Factored:
    stack = stacking.init(sent)
    for board in boards:
        stack = stacking.apply(stack, board, 1.0)
    return stacking.finish(stack, HUB_RANK)


def _dense(sent: Lora, boards: list[Lora]) -> Any:
    """The same sum as a whole matrix, and its SVD. Forming it is part of this way."""
    held = np.where(np.arange(sent.rank) < BOARD_RANK, 1.0, 0.0)
    whole = sent.scale * ((sent.a.astype(np.float64) * (1 - held)) @ sent.b.astype(np.float64))
    for board in boards:
        whole += board.product() / len(boards)
    return np.linalg.svd(whole, full_matrices=False)


if __name__ == "__main__":
    raise SystemExit(main())
