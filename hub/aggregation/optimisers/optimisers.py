"""The server optimisers by name."""

from __future__ import annotations

from console.errors import UsageError
from hub.aggregation.optimisers.adam import ADAM
from hub.aggregation.optimisers.lamb import LAMB
from hub.aggregation.optimisers.momentum import MOMENTUM
from hub.aggregation.optimisers.optimiser import Optimiser
from hub.aggregation.optimisers.plain import PLAIN
from hub.aggregation.optimisers.yogi import YOGI

OPTIMISERS: dict[str, Optimiser] = {one.name: one for one in (PLAIN, MOMENTUM, ADAM, YOGI, LAMB)}


def optimiser_of(name: str) -> Optimiser:
    """An optimiser by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in OPTIMISERS:
        raise UsageError(f"expected a server optimiser among {', '.join(OPTIMISERS)}, found {name!r}")
    return OPTIMISERS[name]
