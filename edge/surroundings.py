"""What a board can know of its power and its network, from the kernel's files; what it cannot know it leaves out.

A board without a power supply that the kernel knows (most Raspberry Pis) says nothing: it may hang on a battery.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PREPAID = ("wwan", "ppp", "usb")  # of interfaces: modems, and telephones that lend their network


@dataclass(frozen=True)
class Surroundings:
    """power: mains, battery or empty; network: wired, wifi, metered or empty."""

    power: str = ""
    battery_percent: int | None = None
    network: str = ""


def surroundings(root: Path = Path("/")) -> Surroundings:
    """Look around; `root` is where proc and sys are."""
    supplies = [_supply(folder) for folder in sorted((root / "sys/class/power_supply").glob("*"))]
    levels = [level for _, level in supplies if level is not None]
    plugged = any(kind == "mains" for kind, _ in supplies)
    power = "mains" if plugged else "battery" if levels else ""
    return Surroundings(power, min(levels, default=None), _network(root))


def _supply(folder: Path) -> tuple[str, int | None]:
    kind = _line(folder / "type")
    if kind == "Battery" and _line(folder / "scope") != "Device":  # a mouse has a battery too
        level = _line(folder / "capacity")
        return "battery", int(level) if level.isdecimal() else None
    return ("mains" if kind in ("Mains", "USB") and _line(folder / "online") == "1" else ""), None


def _network(root: Path) -> str:
    """The kind of the interface that the default route goes over."""
    for line in _text(root / "proc/net/route").splitlines()[1:]:
        name, destination, *_ = line.split() if len(line.split()) > 1 else ("", "-")
        if destination == "00000000":
            if name.startswith(PREPAID):
                return "metered"
            return "wifi" if (root / "sys/class/net" / name / "wireless").exists() else "wired"
    return ""


def _line(path: Path) -> str:
    return _text(path).strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
