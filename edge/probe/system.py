"""The board and what runs on it: its name, its system, Python, onnxruntime and its execution providers, its heat."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.idle.sense import hottest

ELSEWHERE = "AzureExecutionProvider"  # computes on somebody else's machine
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"  # of Raspberry Pis


@dataclass(frozen=True)
class System:
    """What is installed, in words; empty where nobody says.

    Attributes:
        board: as its firmware calls it.
        soc: the newest name of the chip in the device tree, as `BCM2712`.
        os, python, glibc: of the system.
        onnxruntime: its version.
        providers: that compute here, in its order.
        rtc: whether there is a clock that may survive a power cut.
        hottest_celsius: of the zones that the kernel watches.
        throttled: what the firmware says, a number of bits; 0 is nothing.
    """

    board: str
    soc: str
    os: str
    python: str
    glibc: str
    onnxruntime: str
    providers: tuple[str, ...]
    rtc: bool
    hottest_celsius: float | None = None
    throttled: int | None = None


def system(root: Path = Path("/")) -> System:
    """Look; `root` is where proc, sys and etc are."""
    import onnxruntime as ort

    compatible = _text(root / "proc/device-tree/compatible").split("\0")
    chip = next((name for name in reversed([c for c in compatible if c])), "")
    board = (
        _text(root / "proc/device-tree/model").strip("\0 \n") or _text(root / "sys/class/dmi/id/product_name").strip()
    )
    said = _text(root / THROTTLED).strip()
    return System(
        board=board,
        soc=chip.partition(",")[2].upper(),
        os=_release(_text(root / "etc/os-release")) or platform.platform(),
        python=".".join(map(str, sys.version_info[:3])),
        glibc=platform.libc_ver()[1],
        onnxruntime=str(ort.__version__),
        providers=tuple(name for name in ort.get_available_providers() if name != ELSEWHERE),
        rtc=any((root / "sys/class/rtc").glob("rtc*")),
        hottest_celsius=hottest(root),
        throttled=int(said, 16) if said and all(c in "0123456789abcdefx" for c in said) else None,
    )


def _release(text: str) -> str:
    """PRETTY_NAME of os-release(5)."""
    lines = (line.partition("=") for line in text.splitlines())
    return next((value.strip("\"'") for name, _, value in lines if name == "PRETTY_NAME"), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
