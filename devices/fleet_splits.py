"""`[[split]]` of a fleet file: devices that hold fronts of a model, and the one with their tail (docs/fleet.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devices.fronts import BoardSplit, Front, as_tail
from devices.stages import Station
from wire.record import at_least


@dataclass(frozen=True)
class SplitEntry:
    """One `[[split]]`: devices that hold fronts, and the one that holds their tail.

    `borders` are the units where the fronts end, in the order of the devices; 0 for as deep as the device can train.
    """

    devices: tuple[str, ...]
    tail: str
    borders: tuple[int, ...] = field(default=(), metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


def split_of(entry: SplitEntry, stations: Mapping[str, Station]) -> BoardSplit:
    """What to plan for; the entry has no problems."""
    borders = entry.borders or (0,) * len(entry.devices)
    pairs = zip(entry.devices, borders, strict=True)
    return BoardSplit(
        tuple(Front(stations[n].board, at or None) for n, at in pairs), as_tail(stations[entry.tail].board)
    )


def split_problems(splits: Sequence[SplitEntry], names: Collection[str], chained: Collection[str]) -> Iterator[str]:
    """What splits say that cannot be.

    Args:
        splits: of a file.
        names: of all its devices.
        chained: those that chains name.
    """
    used = Counter(name for entry in splits for name in (*entry.devices, entry.tail))
    yield from (
        f"device {n}: in {k} places of splits; it holds one front, or is a tail" for n, k in used.items() if k > 1
    )
    yield from (f"device {name}: in a chain and in a split" for name in used if name in chained)
    for entry in splits:
        at = f"split of tail {entry.tail}"
        lost = [name for name in (*entry.devices, entry.tail) if name not in names]
        if lost:
            yield f"{at}: expected devices of this file, found {', '.join(lost)}"
        if not entry.devices:
            yield f"{at}: expected one device at least, found none"
        if entry.borders and len(entry.borders) != len(entry.devices):
            yield f"{at}: expected as many borders as devices, found {len(entry.borders)}"
