"""What a check finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Level = Literal["ok", "unknown", "warning", "problem"]
ORDER: tuple[Level, ...] = ("ok", "unknown", "warning", "problem")


class Finding(NamedTuple):
    """level: unknown where it could not be looked; says: what was found, one line; mend: what to do, if anything."""

    level: Level
    says: str
    mend: str = ""


def ok(says: str) -> Finding:
    """As it should be."""
    return Finding("ok", says)


def unknown(says: str) -> Finding:
    """Nobody can tell here."""
    return Finding("unknown", says)


def warning(says: str, mend: str) -> Finding:
    """It works, but not as well or as long as it should."""
    return Finding("warning", says, mend)


def problem(says: str, mend: str) -> Finding:
    """It cannot work like this."""
    return Finding("problem", says, mend)


def worst(found: Iterable[Finding], otherwise: Finding) -> Finding:
    """The first of the worst ones.

    >>> worst([ok("a"), problem("b", "mend it"), warning("c", "d")], ok("nothing")).says
    'b'
    """
    return max(found, key=lambda one: ORDER.index(one.level), default=otherwise)
