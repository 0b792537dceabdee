"""The methods by name."""

from __future__ import annotations

from console.errors import UsageError
from hub.aggregation import fedex, ffa, flexlora, hetlora, mean, nested_ffa, padding, rolora, stacking
from hub.aggregation.method import Method

MODULES = (stacking, mean, padding, hetlora, flexlora, fedex, rolora, ffa, nested_ffa)
METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in MODULES}


def method_of(name: str) -> Method:
    """A method by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in METHODS:
        raise UsageError(f"expected an aggregation method among {', '.join(METHODS)}, found {name!r}")
    return METHODS[name]
