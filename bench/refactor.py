"""Re-factoring an aggregate against a full SVD, and against numpy's QRs alone: `python -m bench.refactor [--out FILE]`.

One BLAS thread, float64, hub rank 16, the ways alternate, medians. Bars: at 2048 x 2048 with 32 boards of rank 8 and
the ladder that was sent, at least 30 times faster than forming the matrix and its SVD, and the same to 1e-6; and for
stacks of 256 directions and more within 1.5 times of numpy's two QRs of the same stacks, which is less than it takes to
re-factor anything with them.
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
STACKS = ((384, 384, 12), (768, 768, 32), (768, 3072, 32), (2048, 2048, 32), (2048, 2048, 64), (2048, 8192, 64))
QR_TURNS = 7
FASTER, SAME, AGAINST_QR, LARGE = 30.0, 1e-6, 1.5, 256
Seconds = dict[str, list[float]]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Re-factoring against a full SVD, and against two QRs.")
    parser.add_argument("--out", type=Path, default=Path("build/bench/refactor.json"))
    options = parser.parse_args()
    found = {"full_svd": against_svd(), "two_qrs": [against_qrs(*stack) for stack in STACKS]}
    print(text(found))
    write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def against_svd() -> dict[str, Any]:
    """The whole way of a slot, from updates to directions, against a matrix and its SVD."""
    sent, boards = _fleet(SIDE, SIDE, BOARDS)
    seconds: Seconds = {"re-factored": [], "full SVD": []}
    for _ in range(TURNS):
        thin = _timed(seconds["re-factored"], lambda: _refactored(sent, boards))
        whole = _timed(seconds["full SVD"], lambda: _dense(sent, boards))
    ours = (thin.u * thin.s) @ thin.vt
    best = (whole[0][:, :HUB_RANK] * whole[1][:HUB_RANK]) @ whole[2][:HUB_RANK]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "median_s": median,
        "times_faster": median["full SVD"] / median["re-factored"],
        "relative_difference": float(np.linalg.norm(ours - best) / np.linalg.norm(best)),
    }


def against_qrs(rows: int, columns: int, boards: int) -> dict[str, Any]:
    """The whole way of a slot against `numpy.linalg.qr` of the two stacks, which are there already."""
    sent, brought = _fleet(rows, columns, boards)
    left = np.concatenate([lora.a for lora in (*brought, sent)], axis=1).astype(np.float64)
    right = np.concatenate([lora.b.T for lora in (*brought, sent)], axis=1).astype(np.float64)
    seconds: Seconds = {"re-factored": [], "two QRs": []}
    for _ in range(QR_TURNS):
        _timed(seconds["re-factored"], lambda: _refactored(sent, brought))
        _timed(seconds["two QRs"], lambda: (np.linalg.qr(left), np.linalg.qr(right)))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "rows": rows,
        "columns": columns,
        "stack": left.shape[1],
        "median_s": median,
        "times_the_qrs": median["re-factored"] / median["two QRs"],
    }


def text(found: dict[str, Any]) -> str:
    """Tables for people, and whether the bars are met."""
    svd, qrs = found["full_svd"], found["two_qrs"]
    first = [[n, f"{svd['median_s'][n]:.3f}", ", ".join(f"{v:.3f}" for v in svd["seconds"][n])] for n in svd["seconds"]]
    second = [
        [
            f"{q['rows']} x {q['columns']}",
            q["stack"],
            *(f"{1000 * s:.1f}" for s in q["median_s"].values()),
            f"{q['times_the_qrs']:.2f}",
        ]
        for q in qrs
    ]
    worst = max(q["times_the_qrs"] for q in qrs if q["stack"] >= LARGE)
    faster = f"{svd['times_faster']:.1f} times faster (bar: {FASTER:g})"
    same = f"relative difference {svd['relative_difference']:.1e} (bar: {SAME:g})"
    slower = f"at most {worst:.2f} times numpy's two QRs at a stack of {LARGE} or more (bar: {AGAINST_QR:g})"
    ways = table(["way", "median s", "all"], first)
    stacks = table(["matrix", "stack", "re-factored ms", "two QRs ms", "times"], second)
    return "\n".join([ways, "", f"{faster}, {same}", "", stacks, "", slower])


def _fleet(rows: int, columns: int, boards: int) -> tuple[Lora, list[Lora]]:
    generator = np.random.default_rng(0)
    sent, *brought = (_lora(generator, rows, columns, r) for r in (HUB_RANK, *[BOARD_RANK] * boards))
    return sent, brought


def _lora(generator: np.random.Generator, rows: int, columns: int, rank: int) -> Lora:
    a, b = generator.standard_normal((rows, rank)), generator.standard_normal((rank, columns))
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
