"""All that is measured, in one record; nothing of it leaves the board."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import StorageError
from console.progress import Progress
from devices.latency import Latency
from edge.probe.cpu import Cpu, cpu
from edge.probe.disk import Disk, disk
from edge.probe.network import Link, interfaces
from edge.probe.ram import Ram, ram
from edge.probe.system import System, system
from wire.record import plain

LEAST_COPY_BYTES, SHARE = 4 << 20, 16  # of what is available, one part is copied at most


@dataclass(frozen=True)
class Probe:
    """A board as it was found. `disk` and `latency` are None where they were not measured."""

    date: str
    cpu: Cpu
    ram: Ram
    system: System
    copy_bytes_per_s: int
    copy_together_bytes_per_s: int
    disk: Disk | None
    disk_why: str
    link: Link
    interfaces: tuple[str, ...]
    latency: Latency | None

    @property
    def source(self) -> str:
        """Of its figures, as profiles have it."""
        return f"measured: devices probe, {self.date}"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True)
class Wanted:
    """What to measure, and for how long.

    Attributes:
        folder: whose disk is measured.
        threads: of latency curves; none measures no latency.
        budget_s: of seconds for them.
        disk_bytes: written at most.
    """

    folder: Path
    threads: Sequence[int] = (1,)
    budget_s: float = 50.0
    disk_bytes: int = 64 << 20


def probe(wanted: Wanted, link: Link, bar: Progress) -> Probe:
    """Measure; what a folder does not let be measured is said."""
    room = ram()  # first: what follows takes some of it
    bar.say("looking at the processor and the system")
    cores, today = cpu(), dt.datetime.now(dt.timezone.utc).date().isoformat()
    told = system()
    bar.say("copying")
    from edge.probe.copying import BLOCK_BYTES, copy_bytes_per_s

    block = min(BLOCK_BYTES, max(LEAST_COPY_BYTES, (room.available_bytes or BLOCK_BYTES) // SHARE))
    one, together = copy_bytes_per_s(1, block), copy_bytes_per_s(cores.cores, block)
    bar.say("writing and reading")
    speed, why = _disk(wanted)
    latency = None
    if wanted.threads:
        bar.say("running nodes")
        from edge.probe.latency import measure

        latency = measure(wanted.budget_s, wanted.threads, f"measured: devices probe, {today}", advance=bar.advance)
    return Probe(today, cores, room, told, one, max(one, together), speed, why, link, tuple(interfaces()), latency)


def _disk(wanted: Wanted) -> tuple[Disk | None, str]:
    try:
        return disk(wanted.folder, wanted.disk_bytes), ""
    except StorageError as error:
        return None, str(error)
