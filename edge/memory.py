"""What the kernel says of a process's memory (Linux, proc(5))."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

_FIELDS = {"VmHWM": "peak_bytes", "VmRSS": "resident_bytes", "RssAnon": "anon_bytes"}


def memory(pid: int | str = "self") -> dict[str, int]:
    """peak_bytes (VmHWM), resident_bytes (VmRSS) and anon_bytes (RssAnon); empty when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    found = (line.split() for line in lines if line.partition(":")[0] in _FIELDS)
    return {_FIELDS[words[0][:-1]]: int(words[1]) * 1024 for words in found}


def forget_peak() -> None:
    """Begin VmHWM of this process anew, so that a job's peak is its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def give_back() -> None:
    """Hand freed memory to the system; malloc would keep it (malloc_trim(3); other C libraries have none)."""
    import ctypes  # the core never calls this, and does without

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes(root: Path = Path("/")) -> int | None:
    """MemAvailable, None where the kernel does not say; `root` is where proc is."""
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


class AnonymousPeak:
    """The largest RssAnon of this process, sampled by a thread: the kernel keeps no such peak itself."""

    def __init__(self, every_s: float = 0.02) -> None:
        self.bytes = 0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="anonymous-peak", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, memory().get("anon_bytes", 0))
            if self._stop.wait(self._every_s):
                return

    def stop(self) -> int:
        """The peak since the beginning, in bytes."""
        self._stop.set()
        self._thread.join()
        return self.bytes
