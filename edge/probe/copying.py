"""How fast memory is: what one core copies, and what all of them do together."""

from __future__ import annotations

import threading
import time

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
BLOCK_BYTES = 32 << 20  # more than the caches of a board
TURNS = 5


def copy_bytes_per_s(threads: int = 1, block_bytes: int = BLOCK_BYTES, turns: int = TURNS) -> int:
    """Bytes copied per second, the best of some turns; each byte is read once and written once.

    Args:
        threads: that copy at the same time, each its own block.
        block_bytes: of all of them together.
        turns: of which the first is not counted.
    """
    size = max(1, block_bytes // threads)
    pairs = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    best = min(_turn(pairs) for _ in range(turns + 1))
    return int(size * threads / best)


def _turn(pairs: list[tuple[Bytes, Bytes]]) -> float:
    if len(pairs) == 1:
        return _copied(*pairs[0])
    at_once = threading.Barrier(len(pairs) + 1)

    def work(source: Bytes, target: Bytes) -> None:
        at_once.wait()
        np.copyto(target, source)

    workers = [threading.Thread(target=work, args=pair, daemon=True) for pair in pairs]
    for worker in workers:
        worker.start()
    at_once.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return max(1e-9, time.perf_counter() - began)


def _copied(source: Bytes, target: Bytes) -> float:
    began = time.perf_counter()
    np.copyto(target, source)
    return max(1e-9, time.perf_counter() - began)
