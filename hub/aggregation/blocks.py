"""Something done to the same numbers of all updates, a block of rows at a time.

Memory is bounded by a budget, whatever the number of updates (but for one row of each): the fewer rows of all of
them fit, the more often each is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hub.aggregation.gram import Changes
from hub.aggregation.method import Array

BUDGET_BYTES = 32 << 20
ReadSome = Callable[[Collection[str]], Changes]


@dataclass(frozen=True)
class Block:
    """Rows low to high - 1 of a part."""

    part: str
    low: int
    high: int


def passes(shapes: Mapping[str, tuple[int, int]], count: int, budget_bytes: int = BUDGET_BYTES) -> list[list[Block]]:
    """Which blocks are done together: as many rows of `count` updates as fit, at least one.

    >>> passes({"a": (3, 1), "b": (2, 1)}, 1, 32)
    [[Block(part='a', low=0, high=3), Block(part='b', low=0, high=1)], [Block(part='b', low=1, high=2)]]
    """
    found: list[list[Block]] = [[]]
    left_bytes = budget_bytes
    for part in sorted(shapes):
        rows, columns = shapes[part]
        row_bytes, low = 8 * count * columns, 0
        while low < rows:
            if left_bytes < row_bytes and found[-1]:
                found, left_bytes = [*found, []], budget_bytes
            high = min(rows, low + max(1, left_bytes // row_bytes))
            found[-1].append(Block(part, low, high))
            left_bytes -= row_bytes * (high - low)
            low = high
    return found


def reduced(
    readers: Sequence[ReadSome],
    shapes: Mapping[str, tuple[int, int]],
    reduce: Callable[[str, Array], Array],
    budget_bytes: int = BUDGET_BYTES,
) -> Iterator[tuple[str, Array]]:
    """Each part in order, as a whole matrix [rows, columns]; one part is whole in memory at a time.

    Args:
        readers: one per update, each gives its changes of some parts; a part that one lacks is zero.
        shapes: rows and columns of every part.
        reduce: makes a row [columns] of a part out of that of all updates [n, columns].
        budget_bytes: of the numbers of all updates together.
    """
    whole: dict[str, Array] = {}
    for blocks in passes(shapes, len(readers), budget_bytes):
        stacks = [np.zeros((len(readers), b.high - b.low, shapes[b.part][1])) for b in blocks]
        parts = {block.part for block in blocks}
        for i, read in enumerate(readers):
            change = read(parts)
            for block, stack in zip(blocks, stacks, strict=True):
                if block.part in change:
                    one = change[block.part]
                    np.matmul(one.left[block.low : block.high], one.right, out=stack[i])
        for block, stack in zip(blocks, stacks, strict=True):
            made = whole.setdefault(block.part, np.zeros(shapes[block.part]))
            for row in range(block.low, block.high):  # one by one: what a rule needs beside the numbers stays small
                made[row] = reduce(block.part, stack[:, row - block.low])
            if block.high == shapes[block.part][0]:
                yield block.part, whole.pop(block.part)
