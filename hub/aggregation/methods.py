"""The methods by name."""

from __future__ import annotations

from console.errors import UsageError
from hub.aggregation import stacking
from hub.aggregation.method import Method

METHODS: dict[str, Method] = {method.name: method for method in (stacking.METHOD,)}


def method_of(name: str) -> Method:
    """A method by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in METHODS:
        raise UsageError(f"expected an aggregation method among {', '.join(METHODS)}, found {name!r}")
    return METHODS[name]
