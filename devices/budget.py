"""The memory that a board may use for training, from the memory that it has to spare."""

from __future__ import annotations

CORE_BYTES = 32 << 20  # the agent's core process, which stays while a worker trains
RESERVE_PERCENT = 15  # what the rest of the board may come to need meanwhile


def training_budget_bytes(memory_available_bytes: int) -> int:
    """What a worker may use at its peak, its runtime included.

    `MemAvailable - 32 MiB - 15 % of MemAvailable`, rounded down, never below zero.

    Args:
        memory_available_bytes: MemAvailable of /proc/meminfo, before the agent starts, in bytes.

    Returns:
        The budget in bytes.

    >>> training_budget_bytes(1000 << 20) / (1 << 20)  # MiB: 1000 - 32 - 150
    818.0
    >>> training_budget_bytes(20 << 20)
    0
    """
    reserve_bytes = -(-memory_available_bytes * RESERVE_PERCENT // 100)
    return max(0, memory_available_bytes - CORE_BYTES - reserve_bytes)
