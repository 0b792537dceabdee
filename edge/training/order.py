"""Which rows each step takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice


def batches(rows: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Passes over all rows without an end, each in a new seeded order, cut into batches that may span two passes.

    >>> from itertools import islice
    >>> found = list(islice(batches(10, 4, 0), 5))
    >>> [len(b) for b in found], sorted(sum(found, []))[:6]
    ([4, 4, 4, 4, 4], [0, 0, 1, 1, 2, 2])
    """
    # Python's generator: its shuffle is the same in every version, and numpy's would cost a worker 3 MiB
    generator, size = random.Random(seed), min(batch, rows)  # noqa: S311  # a repeatable order, not a secret
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            order = list(range(rows))
            generator.shuffle(order)
            waiting += order
        yield waiting[:size]
        del waiting[:size]


def after(rows: int, batch: int, seed: int, taken: int) -> Iterator[list[int]]:
    """The same, without the first `taken`."""
    return islice(batches(rows, batch, seed), taken, None)
