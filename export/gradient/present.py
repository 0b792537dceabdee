"""What a check has already found to be there."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(thing: T | None) -> T:
    """`thing`, which the caller knows to be there because a check refused the graph otherwise.

    Raises:
        ValueError: It is not; the check and its use disagree.
    """
    if thing is None:
        raise ValueError("expected a value that an earlier check had found, found None")
    return thing
