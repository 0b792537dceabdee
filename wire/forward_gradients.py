"""What a board and a hub must compute alike of forward gradients (edge.trainers.spry, arXiv 2405.15551).

A board that steps along random directions need send no factors: pairs of a counter and a derivative make the same
steps again from the same start, with the same optimizer, bit for bit. 12 bytes a pair, whatever the rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from wire.directions import Array, Arrays, Pairs, Units, combined
from wire.kinds import lora
from wire.kinds.lora import Lora
from wire.philox import key_of

BOARD_BITS = 63


class Steps(Protocol):
    """An optimizer (wire.optimizers)."""

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""

    def apply(
        self, arrays: Arrays, state: Mapping[str, NDArray[Any]], gradients: Arrays
    ) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
        """Arrays and state after a step."""


def gradient(pairs: Pairs, key: int, board: int, units: Units, like: Arrays) -> dict[str, Array]:
    """1/K sum d v for every array of the units."""
    shares = [(counter, d / len(pairs)) for counter, d in pairs]
    return combined(key, board, shares, units, like)


def rebuild(
    start: Arrays, steps: Sequence[Pairs], key: int, board: int, units: Units, optimizer: Steps
) -> dict[str, Array]:
    """The arrays that a board had after its steps, without a loss."""
    arrays = dict(start)
    state = optimizer.begin({name: arrays[name] for names in units.values() for name in names})
    for pairs in steps:
        arrays, state = optimizer.apply(arrays, state, gradient(pairs, key, board, units, arrays))
    return arrays


def rebuilt(
    start: Mapping[str, Lora], steps: Sequence[Pairs], key: int, board: int, optimizer: Steps
) -> dict[str, Lora]:
    """The factors of all slots that a board had after the steps of a job; `start` is the prefix that it began with."""
    arrays = {n: m for slot, w in start.items() for n, m in zip(lora.names(slot)[:2], (w.a, w.b), strict=True)}
    units = {unit(slot): list(lora.names(slot)[:2]) for slot in start}
    made = rebuild(arrays, steps, key, board, units, optimizer)
    return {s: Lora(made[lora.names(s)[0]], made[lora.names(s)[1]], w.scale) for s, w in start.items()}


def unit(slot: str) -> str:
    """The unit of a slot's two factors: A first, then B.

    >>> unit("layer.0.query")
    'layer.0.query/lora'
    """
    return f"{slot}/lora"


def job_key(model: str, version: str) -> int:
    """The key of the directions of all jobs that start from a version."""
    return key_of("spry", model, version)


def job_board(job: str) -> int:
    """The number of a job's own directions, so that no two boards look the same way.

    >>> job_board("r1-train-barn") != job_board("r1-train-coop")
    True
    """
    return key_of("job", job) % (1 << BOARD_BITS)
