"""Whether the card that was opened is the one that somebody said was meant: in between, hands change cards."""

from __future__ import annotations

from collections.abc import Callable

from console.errors import UsageError
from console.table import mib
from devices.flash.disks import Disk, disks
from devices.flash.writing import sequence_of, size_of


def require_same(descriptor: int, meant: Disk, known: Callable[[], list[Disk]] = disks) -> None:
    """Compare its size, its serial and name, and the kernel's number of what was put in, where it knows one.

    Args:
        descriptor: of the card, open for us alone.
        meant: as it was when somebody was asked.
        known: the disks of this machine now.

    Raises:
        UsageError: another one is there.
    """
    size, sequence = size_of(descriptor), sequence_of(descriptor)
    now = next((disk for disk in known() if disk.path == meant.path), None)
    changed = meant.sequence is not None and sequence not in (None, meant.sequence)
    other = now is None or (now.serial, now.name) != (meant.serial, meant.name)
    if size != meant.size_bytes or changed or other:
        serial = now.serial if now is not None else ""
        raise UsageError(
            f"expected {meant.path} as it was ({mib(meant.size_bytes)}, serial {meant.serial or 'none'}), found that "
            f"another card was put in ({mib(size)}, serial {serial or 'none'}); nothing was written, run it again"
        )
