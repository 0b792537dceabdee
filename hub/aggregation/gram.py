"""All inner products of what boards changed, [n, n], in memory that does not grow with their number.

Updates are read again and again: some of them, as many as a budget holds, stay while each later one passes by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.products import Change, norm

BUDGET_BYTES = 16 << 20
Changes = Mapping[str, Change]
Read = Callable[[], Changes]


def lengths(readers: Sequence[Read]) -> Array:
    """The Gram matrix of which only the diagonal, the squared lengths, is known; everything else is NaN."""
    gram = np.full((len(readers), len(readers)), np.nan)
    np.fill_diagonal(gram, [_square(read()) for read in readers])
    return gram


def gram(readers: Sequence[Read], budget_bytes: int = BUDGET_BYTES) -> Array:
    """The Gram matrix of changes: sums over their parts of tr((L_i^T L_j) (R_j R_i^T)).

    Args:
        readers: one per update, each gives its parts by name; a part that one lacks is zero.
        budget_bytes: of the updates that stay in memory; one stays in any case, and one more passes by.
    """
    count = len(readers)
    found = np.zeros((count, count))
    for first, held in _blocks(readers, budget_bytes):
        last = first + len(held)
        for i, one in enumerate(held):
            found[first + i, first + i] = _square(one)
        stack = _stacked(held)
        for j in range(first + 1, count):
            other = held[j - first] if j < last else readers[j]()
            row = _against(stack, len(held), other)[: j - first]
            found[first : min(j, last), j] = row
            found[j, first : min(j, last)] = row
    return found


@dataclass(frozen=True)
class _Stack:
    """One part of several updates: left [in, R], right [R, out], the update and the first column of each."""

    left: Array
    right: Array
    owners: list[int]
    starts: list[int]


def _blocks(readers: Sequence[Read], budget_bytes: int) -> Iterator[tuple[int, list[Changes]]]:
    """The updates in order, as many at a time as the budget holds; the number of the first with them."""
    first = 0
    while first < len(readers):
        held = [readers[first]()]
        while sum(map(_bytes, held)) < budget_bytes and first + len(held) < len(readers):
            held.append(readers[first + len(held)]())
        yield first, held
        first += len(held)


def _stacked(held: Sequence[Changes]) -> dict[str, _Stack]:
    stacks = {}
    for name in sorted({name for one in held for name in one}):
        owners = [i for i, one in enumerate(held) if name in one]
        parts = [held[i][name] for i in owners]
        starts = np.cumsum([0, *(p.left.shape[1] for p in parts)])[:-1]
        left, right = np.concatenate([p.left for p in parts], 1), np.concatenate([p.right for p in parts])
        stacks[name] = _Stack(left, right, owners, starts.tolist())
    return stacks


def _against(stacks: Mapping[str, _Stack], count: int, other: Changes) -> Array:
    """The inner products of one update with each of those in a stack, [count]."""
    found = np.zeros(count)
    for name in other.keys() & stacks.keys():
        stack, one = stacks[name], other[name]
        rows = np.sum((stack.left.T @ one.left) * (stack.right @ one.right.T), axis=1)
        found[stack.owners] += np.add.reduceat(rows, stack.starts)
    return found


def _square(one: Changes) -> float:
    return sum(norm(part) ** 2 for part in one.values())


def _bytes(one: Changes) -> int:
    return sum(part.left.nbytes + part.right.nbytes for part in one.values())
