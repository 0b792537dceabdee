"""The one harness of all tests of faults, its core: what a fault does, and the instants at which it strikes.

Light on purpose: programs that are struck load it, too. What hubs need of it is in `tests.faults`.
"""

from __future__ import annotations

from typing import Literal

Instant = Literal["before", "after"]


class Killed(BaseException):
    """A kill: no handler of the program gets to see it."""


class Fuse:
    """Burns down with every instant, and kills when it is at its end."""

    def __init__(self, instants: int) -> None:
        self.left = instants
        self.struck = False

    def burn(self, when: Instant, what: str) -> None:
        """One instant nearer."""
        self.left -= 1
        if self.strikes(when, what):
            self.struck = True
            self.strike()

    def strikes(self, when: Instant, what: str) -> bool:
        """Whether it is now."""
        return self.left == 0

    def strike(self) -> None:
        """Do it."""
        raise Killed
