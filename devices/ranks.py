"""The adapter rank of a board whose rank is not given: by its memory."""

from __future__ import annotations

from devices.memory import MIB

RANKS = ((300 * MIB, 2), (2048 * MIB, 8))  # below each budget
LARGEST_RANK = 16
MOST_RANK = 1024  # that anybody may ask for


def rank_for(budget_bytes: int) -> int:
    """The adapter rank of a board whose rank is not given.

    >>> rank_for(200 * MIB), rank_for(1024 * MIB), rank_for(6144 * MIB)
    (2, 8, 16)
    """
    return next((rank for limit, rank in RANKS if budget_bytes < limit), LARGEST_RANK)
