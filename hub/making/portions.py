"""Which slots a hub sums together: the sums of all of them may be more than it has memory for."""

from __future__ import annotations

from collections.abc import Mapping

from wire.kinds.lora import Lora

SUMS_BYTES = 4 << 20


def portions(sent: Mapping[str, Lora]) -> list[list[str]]:
    """Slots whose sums are in memory together: as many as have `SUMS_BYTES` as matrices in float64, at least one.

    No method's sum takes more than a matrix or two. Updates are read as a whole for the first portion, which checks
    them, and of what follows only what a portion needs. There is at least one portion.
    """
    found: list[list[str]] = [[]]
    held = 0
    for name, factors in sorted(sent.items()):
        size = factors.a.shape[0] * factors.b.shape[1] * 8
        if found[-1] and held + size > SUMS_BYTES:
            found.append([])
            held = 0
        found[-1].append(name)
        held += size
    return found
