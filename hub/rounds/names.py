"""The names of jobs."""

from __future__ import annotations


def job_id(number: int, what: str, device: str, turn: int = 1) -> str:
    """The name of a job: of a round, of its how many-th asking, and what a device shall do.

    >>> job_id(3, "train", "barn-1"), job_id(3, "train", "barn-1", 2)
    ('r3-train-barn-1', 'r3.2-train-barn-1')
    """
    return f"r{number}{f'.{turn}' if turn > 1 else ''}-{what}-{device}"
