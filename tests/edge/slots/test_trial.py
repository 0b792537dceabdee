"""When a release on trial is healthy, when it is not, and that a board without a network holds nothing against it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.slots.trial import Limits, Trial

LIMITS = Limits(steady=60.0, answer=600.0, unconnected=600.0, offline=1800.0)
Story = Callable[[Trial, float], None]


def told(story: Story, seconds: int, *, computes: bool = True) -> str:
    """What a trial ends with, told every ten seconds what happens."""
    trial = Trial(0.0, computes=computes, limits=LIMITS)
    for now in range(0, seconds, 10):
        story(trial, float(now))
        if trial.unhealthy(now):
            return f"unhealthy: {trial.unhealthy(now)}"
        if trial.healthy(now):
            return f"healthy after {now}"
    return "open"


def well(trial: Trial, now: float) -> None:
    """It connects, hears the hub, and its bundle answers."""
    trial.connected(True)
    trial.heard()
    trial.proved("")


def silent_hub(trial: Trial, now: float) -> None:
    """The broker is there, and no hub."""
    trial.connected(True)
    trial.proved("")


def offline(trial: Trial, now: float) -> None:
    """Nobody answers anywhere."""
    trial.proved("")
    trial.reached(now, yes=False)


def deaf(trial: Trial, now: float) -> None:
    """Somebody answers at the broker's address, and it cannot connect."""
    trial.proved("")
    trial.reached(now, yes=True)


def flapping(trial: Trial, now: float) -> None:
    """The network comes for a moment every few minutes, and goes before anybody is connected."""
    trial.proved("")
    trial.reached(now, yes=now % 300 < 60)


def mute(trial: Trial, now: float) -> None:
    """Connected, and its bundle never answers."""
    trial.connected(True)
    trial.heard()


def wrong(trial: Trial, now: float) -> None:
    """Its bundle computes something else."""
    trial.connected(True)
    trial.heard()
    trial.proved("off by 0.5")


STORIES: dict[str, tuple[Story, str]] = {
    "well": (well, "healthy after 60"),
    "a silent hub": (silent_hub, "healthy after 1800"),
    "offline": (offline, "healthy after 1800"),
    "a network that comes and goes": (flapping, "healthy after 1860"),
    "not connected though it could be": (deaf, "unhealthy: it was not connected for 600 s, though somebody answers"),
    "no answer": (mute, "unhealthy: its bundle did not answer within 600 s"),
    "a wrong answer": (wrong, "unhealthy: its bundle does not compute what it should: off by 0.5"),
}


@pytest.mark.parametrize("story", STORIES)
def test_health(story: str) -> None:
    """What a release can do nothing for is not held against it; all else is."""
    tell, ends = STORIES[story]
    assert told(tell, 3600).startswith(ends)


def test_a_board_without_a_bundle_has_nothing_to_answer() -> None:
    """It is healthy by running and by hearing the hub."""

    def connected(trial: Trial, now: float) -> None:
        trial.connected(True)
        trial.heard()

    assert told(connected, 3600, computes=False) == "healthy after 60"


def test_a_connection_that_is_lost_is_none() -> None:
    """Who heard the hub, and then lost it while others are answered, is not healthy yet."""

    def lost(trial: Trial, now: float) -> None:
        trial.proved("")
        trial.connected(now < 30)
        trial.heard()
        trial.reached(now, yes=True)

    assert told(lost, 3600).startswith("unhealthy: it was not connected for 600 s")
