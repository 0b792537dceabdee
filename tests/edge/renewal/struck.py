"""Functions with a fault before them and after them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tests.edge.slots.strike import StateFuse


def struck(
    fuse: StateFuse, state: str, real: Callable[..., Any], when: Callable[..., bool] = lambda *given: True
) -> Callable[..., Any]:
    """A function that is struck before it runs and after it, in calls of which `when` says so."""

    @functools.wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        if not when(*given):
            return real(*given, **named)
        fuse.at("enter", state)
        found = real(*given, **named)
        fuse.at("leave", state)
        return found

    return wrapped
