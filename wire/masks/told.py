"""What the hub says of the masks of a round, in the settings of its jobs; hub and boards check it alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from console.errors import BadData
from wire.record import at_least, read_record

SETTING = "secure"
MOST_BOARDS = 500  # every board shares with every other one, through the hub
LEAST_BOARDS = 3


@dataclass(frozen=True)
class Told:
    """The terms of a sum.

    Attributes:
        threshold: how many boards must be left for anything to be opened; more than half of them all.
        boards: how many may take part at most.
        bound: no number of a board is larger.
        fraction_bits: what a number is multiplied by, as a power of two.
        width: of training: directions of B in the vector, for boards of any rank up to it.
        rows: of training: what a board counts by is its rows, up to so many; 0: all count alike.
        clip: of training: no number of the change of B is larger; it is cut there.
    """

    threshold: int = field(metadata=at_least(2))
    boards: int = field(metadata=at_least(LEAST_BOARDS, MOST_BOARDS))
    bound: float = field(metadata=at_least(1.0, 2.0**53))
    fraction_bits: int = field(metadata=at_least(0, 52))
    width: int = field(default=0, metadata=at_least(0, 4096))
    rows: int = field(default=0, metadata=at_least(0, 1 << 40))
    clip: float = field(default=0.0, metadata=at_least(0.0))
    extra: dict[str, Any] = field(default_factory=dict)


def told_of(settings: Mapping[str, Any]) -> Told | None:
    """The terms in the settings of a job; None of a job without masks.

    Raises:
        BadData: naming every term that is wrong, or that the threshold would let two groups of boards be asked apart.
    """
    given = settings.get(SETTING)
    if not given:
        return None
    told = read_record(Told, given, "the terms of a sum under masks")
    if not room(told.boards, told.bound, told.fraction_bits):
        raise BadData(
            f"expected a sum of {told.boards} boards' numbers up to {told.bound:g} to have room in 64 bits with "
            f"{told.fraction_bits} of them behind the point, found that it may run over; lower one of them"
        )
    if not told.boards < 2 * told.threshold or told.threshold > told.boards:
        raise BadData(
            f"expected a threshold above half of {told.boards} boards, and not above all, found {told.threshold}; a "
            f"hub could ask two halves of them differently"
        )
    return told


def room(boards: int, bound: float, fraction_bits: int) -> bool:
    """Whether sums over so many boards of values up to a bound cannot run over modulo 2^64.

    >>> room(500, 2.0**26, 28), room(1024, 2.0**26, 28)
    (True, False)
    """
    return boards * (math.ceil(math.ldexp(bound, fraction_bits)) + 1) < 1 << 63
