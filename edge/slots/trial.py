"""Whether a new release is healthy: it ran for a while, its bundle answered right, and it heard of the hub.

What it can do nothing for is not held against it. Where nothing answers at the broker's address, the board is offline,
which the release before would be too: after a time its own computing is enough. Where something answers there and the
release is not connected all the same, that is the release's fault until it is shown otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long, in seconds.

    Attributes:
        steady: it must run, and feed its watchdog.
        answer: its bundle may take to answer, from the start on.
        unconnected: it may be without a connection while somebody answers at the broker's address.
        offline: after which a board without a network, or without its hub, judges alone.
    """

    steady: float = 60.0
    answer: float = 600.0
    unconnected: float = 600.0
    offline: float = 1800.0


class Trial:
    """What is known since this start. Pure: whoever has it tells it what happens.

    Args:
        now: seconds that only grow.
        computes: whether there is a bundle to ask.
        limits: how long things may take.
    """

    def __init__(self, now: float, *, computes: bool, limits: Limits | None = None) -> None:
        self._began, self._limits = now, limits or Limits()
        self._answered, self._wrong = not computes, ""
        self._heard = self._up = False
        self._ignored_since: float | None = None  # somebody answers at the broker's address, but not to us

    def heard(self) -> None:
        """A message came that the hub signed for this board."""
        self._heard = True

    def connected(self, up: bool) -> None:
        """The broker took us in, or the connection is lost."""
        self._up = up
        if up:
            self._ignored_since = None

    def reached(self, now: float, yes: bool) -> None:
        """Whether somebody took a plain connection at the broker's address."""
        if not yes or self._up:
            self._ignored_since = None
        elif self._ignored_since is None:
            self._ignored_since = now

    def proved(self, wrong: str) -> None:
        """The bundle answered; `wrong` is empty if as it should."""
        self._answered, self._wrong = not wrong, wrong

    def unhealthy(self, now: float) -> str:
        """Why this start has failed; empty: it has not, so far."""
        lived, limits = now - self._began, self._limits
        if self._wrong:
            return f"its bundle does not compute what it should: {self._wrong}"
        if not self._answered and lived >= limits.answer:
            return f"its bundle did not answer within {limits.answer:.0f} s"
        if self._ignored_since is not None and now - self._ignored_since >= limits.unconnected:
            return f"it was not connected for {limits.unconnected:.0f} s, though somebody answers where the broker is"
        return ""

    def healthy(self, now: float) -> bool:
        """Whether the trial is over."""
        lived, limits = now - self._began, self._limits
        if not self._answered or self._wrong or lived < limits.steady:
            return False
        if self._up and self._heard:
            return True
        return self._ignored_since is None and lived >= limits.offline
