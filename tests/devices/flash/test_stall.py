"""Silence is told once, and so is its end."""

from __future__ import annotations

import queue
import threading

import pytest

from devices.flash.stall import watched


def test_silence_is_told() -> None:
    """Once, with what to do; then that it goes on; and a second silence is told again."""
    said, counted = queue.Queue[str](), list[int]()
    with watched(counted.append, "the card /dev/sdb", said.put, 0.05) as advance:
        for _ in range(2):
            assert said.get(timeout=20).startswith("the card /dev/sdb has taken or given nothing for 0.05 s: ")
            with pytest.raises(queue.Empty):
                said.get(timeout=0.3)
            advance(7)
            assert said.get(timeout=20) == "the card /dev/sdb goes on"
    assert counted == [7, 7]


def test_work_that_goes_on_is_not_disturbed() -> None:
    """Nothing is said, and nothing is left that watches, also where the work fails."""
    said, before = list[str](), threading.active_count()

    def fails() -> None:
        with watched(lambda size: None, "it", said.append, 30.0) as advance:
            advance(1)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert (said, threading.active_count()) == ([], before)
