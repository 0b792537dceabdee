"""Where the part of a model ends that no adapter changes (docs/plan.md, "The trunk")."""

from __future__ import annotations

from collections.abc import Sequence

from console.errors import UsageError
from devices.units import Unit, boundary

TRUNKS = ("auto", "apart", "within")


def trunk_cut(units: Sequence[Unit]) -> int:
    """The cut below the lowest slot whose boundary a training run keeps once per sample.

    Of the cuts with at least half of the arithmetic below that slot, the latest whose boundary is at most a quarter
    larger than the least: what a row is read for should be worth its bytes, and bytes are cheap beside arithmetic.

    Raises:
        UsageError: there is no slot, or the lowest one is in the first piece.

    >>> def unit(flops, crossing, slot=0):
    ...     return Unit("", {}, 0, 0, crossing, slot, flops_per_item=flops)
    >>> trunk_cut([unit(1, 3), unit(40, 5), unit(40, 4), unit(5, 12), unit(40, 4, slot=8), unit(9, 0)])
    3
    """
    lowest = next((k for k, unit in enumerate(units) if unit.adapter_values_per_rank), 0)
    below = [sum(unit.flops_per_item for unit in units[:k]) for k in range(lowest + 1)]
    worth = [k for k in range(1, lowest + 1) if 2 * below[k] >= below[lowest]]
    if not worth:
        raise UsageError(
            "expected a piece of the model below its lowest adapter, found none; choose other --adapter-targets, or "
            "leave --trunk out"
        )
    least = min(boundary(units, k) for k in worth)
    return max(k for k in worth if 4 * boundary(units, k) <= 5 * least)
