"""The network: interfaces that the kernel knows, and how fast the agent's hub sends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console.errors import EdgequiltError
from edge.install import Source
from wire.manifest import Manifest

BYTES, LONGEST_S = 4 << 20, 10.0
PROFILE_NAMES = ((10_000, "10 Gigabit"), (5_000, "5 Gigabit"), (2_500, "2.5 Gigabit"), (1_000, "Gigabit"))


@dataclass(frozen=True)
class Link:
    """What the hub sent: bytes per second and how many, seconds for a small file; why there is none, if so."""

    bytes_per_s: int | None = None
    tried_bytes: int = 0
    answer_s: float | None = None
    why: str = ""


class Enough(Exception):
    """Bytes or seconds."""


class Counter:
    """Takes bytes and forgets them; the clock begins with the first."""

    def __init__(self, limit_bytes: int, limit_s: float) -> None:
        self.bytes, self.began = 0, 0.0
        self._limit_bytes, self._limit_s = limit_bytes, limit_s

    def tell(self) -> int:
        """How many there were."""
        return self.bytes

    def write(self, data: bytes) -> int:
        """Count, until it is enough."""
        now = time.monotonic()
        self.began = self.began or now
        self.bytes += len(data)
        if self.bytes >= self._limit_bytes or now - self.began > self._limit_s:
            raise Enough
        return len(data)


def link(source: Source, manifest: Manifest | None, limit_bytes: int = BYTES, limit_s: float = LONGEST_S) -> Link:
    """Fetch a part of the largest file of the bundle that the agent has, and forget it.

    Args:
        source: the hub.
        manifest: of the bundle; None where there is none yet, and nothing large to ask for.
        limit_bytes: at most.
        limit_s: at most.
    """
    counter, answer_s = Counter(limit_bytes, limit_s), None
    try:
        began = time.monotonic()
        source.bytes("/ca.pem", 1 << 20)
        answer_s = time.monotonic() - began
        if manifest is None or not manifest.files:
            return Link(answer_s=answer_s, why="the agent has no bundle yet, and so nothing large to fetch")
        largest = max(manifest.files, key=lambda file: file.bytes)
        began = time.monotonic()
        source.range(f"/blobs/{largest.sha256}", counter, 0, largest.bytes)  # type: ignore[arg-type]  # only written to
    except Enough:
        pass
    except EdgequiltError as error:
        return Link(answer_s=answer_s, why=str(error))
    return Link(int(counter.bytes / max(1e-9, time.monotonic() - began)), counter.bytes, answer_s)


def interfaces(root: Path = Path("/")) -> list[str]:
    """Real ones that are there, as profiles name them: `Gigabit Ethernet`, `Wi-Fi`."""
    found = []
    for folder in sorted((root / "sys/class/net").glob("*")):
        if (folder / "wireless").exists():
            found.append("Wi-Fi")
        elif (folder / "device").exists():
            found.append(f"{_rate(folder)}Ethernet")
    return list(dict.fromkeys(found))


def _rate(folder: Path) -> str:
    try:
        said = int((folder / "speed").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ""
    names: Sequence[str] = [name for mbit, name in PROFILE_NAMES if said >= mbit]
    return f"{names[0]} " if names else ""
