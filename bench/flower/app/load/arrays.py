"""What an adapter is in Flower's words: one array for each factor, or all of it in one."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

Shapes = dict[str, tuple[int, int]]


def shapes(slots: int, side: int, rank: int) -> Shapes:
    """Both factors of every slot: A [in, rank], B [rank, out]."""
    made: Shapes = {}
    for index in range(slots):
        made[f"layer.{index}.query/A"] = (side, rank)
        made[f"layer.{index}.query/B"] = (rank, side)
    return made


def record(numbers: NDArray[np.float32], wanted: Shapes, packed: bool) -> ArrayRecord:
    """So many numbers as a record."""
    if packed:
        return ArrayRecord({"adapter": Array(numbers)})
    made, at = {}, 0
    for name, shape in wanted.items():
        size = shape[0] * shape[1]
        made[name] = Array(numbers[at : at + size].reshape(shape))
        at += size
    return ArrayRecord(made)


def factors(found: ArrayRecord, wanted: Shapes) -> dict[str, NDArray[np.float32]]:
    """The factors of a record, however it is packed."""
    if "adapter" not in found:
        return {name: array.numpy() for name, array in found.items()}
    numbers, made, at = found["adapter"].numpy(), {}, 0
    for name, shape in wanted.items():
        size = shape[0] * shape[1]
        made[name] = numbers[at : at + size].reshape(shape)
        at += size
    return made


def count(wanted: Shapes) -> int:
    """How many numbers that is."""
    return sum(rows * columns for rows, columns in wanted.values())
