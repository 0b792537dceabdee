"""Memory: what Linux has in all, what is available, and what a control group allows (proc(5), cgroups(7))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
NOMINAL = tuple(GIB // 2 << power for power in range(12))  # what boards and machines are sold with


@dataclass(frozen=True)
class Ram:
    """Bytes; None where the kernel does not say. `limit_bytes` is that of the narrowest control group."""

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None = None

    @property
    def nominal_bytes(self) -> int | None:
        """The least that is sold and holds this."""
        total = self.total_bytes
        return None if total is None else next((size for size in NOMINAL if size >= total), total)


def ram(root: Path = Path("/")) -> Ram:
    """Look; what is available is within the limit of the control group."""
    said = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            said[name] = int(words[0]) * 1024
    total, available = said.get("MemTotal"), said.get("MemAvailable")
    limits = list(_limits(root))
    limit = min((limit for limit, _ in limits), default=None)
    rooms = [max(0, limit - used) for limit, used in limits]
    if available is not None:
        available = min([available, *rooms])
    return Ram(total, available, limit if limit is not None and (total is None or limit < total) else None)


def _limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use of the control groups that this process is in, version 2 and 1."""
    out = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            top, limit, used = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            said, now = _text(folder / limit).strip(), _text(folder / used).strip()
            if said.isdigit() and now.isdigit():
                out.append((int(said), int(now)))
            if folder == top:
                break
    return out


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
