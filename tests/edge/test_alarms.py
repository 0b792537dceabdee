"""Pauses before something is said again."""

from __future__ import annotations

import random
from collections import Counter

from edge.alarms import FIRST_S, LAST_S, Alarms

FLEET = 200


def pauses(seed: int, attempts: int) -> list[float]:
    """The pauses of one agent that is never answered."""
    alarms, found = Alarms(random.Random(seed)), []
    for _ in range(attempts):
        alarms.arm("x", 0.0)
        found.append(alarms.at["x"])
    return found


def test_limits_double_and_pauses_are_anywhere_below() -> None:
    """Over a fleet, pauses fill everything below a limit that doubles up to the last one: half of it on average."""
    by_attempt = list(zip(*(pauses(seed, 9) for seed in range(FLEET)), strict=True))
    for attempt, found in enumerate(by_attempt):
        limit = min(LAST_S, FIRST_S * 2**attempt)
        assert 0 <= min(found) < 0.05 * limit
        assert 0.95 * limit < max(found) <= limit
        assert abs(sum(found) / FLEET - limit / 2) < 0.1 * limit  # five standard errors are 0.1


def test_a_fleet_that_comes_back_does_not_stampede() -> None:
    """200 agents, cut off at one instant for five minutes: no second sees more than a twentieth of them at once."""
    seen: Counter[int] = Counter()
    for seed in range(FLEET):
        at_s, alarms = 0.0, Alarms(random.Random(seed))
        while at_s < 300 + LAST_S:
            alarms.arm("x", at_s)
            at_s = alarms.at["x"]
            if at_s >= 300:  # from here on the hub is there: who asks is answered, and asks no more
                seen[int(at_s)] += 1
                break
    assert sum(seen.values()) == FLEET
    assert max(seen.values()) <= FLEET / 20
    assert max(seen) - min(seen) > LAST_S * 0.7


def test_after_progress_pauses_begin_small_again() -> None:
    """A name that was answered, and any other name, begins with the first limit."""
    alarms = Alarms(random.Random(1))
    for _ in range(9):
        alarms.arm("x", 0.0)
    alarms.calm("x")
    alarms.arm("x", 0.0)
    alarms.arm("y", 0.0)

    assert max(alarms.at.values()) <= FIRST_S
    assert alarms.ringing(FIRST_S) == ["x", "y"]
    assert alarms.wait_s(0.0) is None
