"""Which system an image holds; the first that recognises itself is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from console.errors import BadData
from devices.flash.changes import Changes, Seen
from devices.flash.systems import armbian, debian, jetson, raspios
from devices.flash.wishes import Wishes


@dataclass(frozen=True)
class System:
    """A kind of system.

    Attributes:
        name: for people and reports.
        looked_for: what it is recognised by.
        title: what an image of it is called; None: it is none.
        changes: what to write into it.
    """

    name: str
    looked_for: str
    title: Callable[[Seen], str | None]
    changes: Callable[[Seen, Wishes, str], Changes]


# what says its name comes before what is known by its FAT partition, which Armbian for a Raspberry Pi has, too
KNOWN = (
    System("jetpack", jetson.LOOKED_FOR, jetson.title, jetson.changes),
    System("armbian", armbian.LOOKED_FOR, armbian.title, armbian.changes),
    System("raspberry-pi-os", raspios.LOOKED_FOR, raspios.title, raspios.changes),
    System("debian", debian.LOOKED_FOR, debian.title, debian.changes),
)


def recognise(seen: Seen) -> System:
    """The system of an image.

    Raises:
        BadData: it is none that is known; says what was looked for.
    """
    for system in KNOWN:
        if system.title(seen) is not None:
            return system
    looked = "; ".join(f"{system.name}: {system.looked_for}" for system in KNOWN)
    raise BadData(
        f"expected an image of a system that is known, found none of its signs ({looked}); take the system's own image "
        "for cards, or install on the running board (edgequilt install)"
    )
