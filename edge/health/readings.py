"""What a board's kernel says of its heat, its power and its room. What it does not say is None: unknown stays unknown.

Sources: Linux, Documentation/driver-api/thermal/sysfs-api.rst, Documentation/hwmon/sysfs-interface.rst
(`in0_lcrit_alarm` of the driver raspberrypi-hwmon, named rpi_volt), proc(5); Raspberry Pi documentation,
"get_throttled", for its bits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge.idle.sense import hottest
from edge.memory import available_bytes

UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
SINCE_BOOT = 16  # the same bits, so far to the left: it happened since the board started
COOLS_CPU = ("cpufreq", "Processor")  # in the type of a cooling device that slows the cores down


@dataclass(frozen=True)
class Health:
    """All that is known at one moment.

    Attributes:
        temperature_c: of the hottest zone, degrees Celsius.
        under_voltage: the supply is too weak now.
        throttled: the cores are slowed down now, by heat or by the supply.
        under_voltage_seen, throttled_seen: the same, at any time since the board started.
        load: processes that ran or waited to run, mean of a minute.
        memory_available_bytes: MemAvailable.
        disk_free_bytes: of the state folder's file system, for a user who is not root.
        uptime_s: since the board started.
    """

    temperature_c: float | None = None
    under_voltage: bool | None = None
    throttled: bool | None = None
    under_voltage_seen: bool | None = None
    throttled_seen: bool | None = None
    load: float | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None
    uptime_s: float | None = None


def read_health(folder: Path, root: Path = Path("/")) -> Health:
    """Look around.

    Args:
        folder: on the file system whose room counts.
        root: where proc and sys are.
    """
    bits = _firmware(root)
    alarm = _alarm(root)
    now = None if bits is None else bool(bits & UNDER_VOLTAGE)
    return Health(
        temperature_c=hottest(root),
        under_voltage=_any(alarm, now),
        throttled=_any(_cooling(root), None if bits is None else bool(bits & (CAPPED | THROTTLED | SOFT_LIMIT))),
        under_voltage_seen=None if bits is None else bool(bits >> SINCE_BOOT & UNDER_VOLTAGE),
        throttled_seen=None if bits is None else bool(bits >> SINCE_BOOT & (CAPPED | THROTTLED | SOFT_LIMIT)),
        load=_first_number(root / "proc/loadavg"),
        memory_available_bytes=available_bytes(root),
        disk_free_bytes=free_bytes(folder),
        uptime_s=_first_number(root / "proc/uptime"),
    )


def free_bytes(folder: Path) -> int | None:
    """Room on the file system of a folder, for a user who is not root; None: there is no such folder."""
    try:
        told = os.statvfs(folder)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize


def _any(*found: bool | None) -> bool | None:
    """Whether any of them says so; None if none says anything."""
    known = [one for one in found if one is not None]
    return any(known) if known else None


def _firmware(root: Path) -> int | None:
    """The bits of a Raspberry Pi's firmware; the folder's name has the address of the bus on newer boards."""
    lines = [_line(path) for path in (root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")]
    try:
        return int(lines[0], 16)
    except (ValueError, IndexError):
        return None


def _alarm(root: Path) -> bool | None:
    """Whether a Raspberry Pi's driver says that the voltage is too low."""
    for folder in (root / "sys/class/hwmon").glob("*"):
        if _line(folder / "name") == "rpi_volt":
            told = _line(folder / "in0_lcrit_alarm")
            return told == "1" if told in ("0", "1") else None
    return None


def _cooling(root: Path) -> bool | None:
    """Whether the kernel slows the cores down to cool them; None where it has no such means."""
    found = [
        _line(folder / "cur_state")
        for folder in (root / "sys/class/thermal").glob("cooling_device*")
        if any(word in _line(folder / "type") for word in COOLS_CPU)
    ]
    states = [int(state) for state in found if state.isdecimal()]
    return any(states) if states else None


def _first_number(path: Path) -> float | None:
    try:
        return float(_line(path).split()[0])
    except (ValueError, IndexError):
        return None


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
