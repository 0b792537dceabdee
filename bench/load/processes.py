"""What processes take, and how they are started and ended (Linux, proc(5))."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, CLIENT_CORE = 0, 1
STOP_S = 10.0


def cpu_s(pid: int) -> float:
    """Seconds of the processor, user and system, of a process with its threads; 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss_bytes(pid: int, part: str = "Pss:") -> int:
    """Memory of a process, what it shares divided by those who share it; 0 where there is none."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(part)), 0)


def born(pid: int) -> str:
    """When a process that runs began, in ticks since the machine did; empty where there is none.

    Its number alone says nothing: it may be used again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def name_of(pid: int) -> str:
    """How a process is called; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    found, at = [root], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
        at += 1
    return found


def child_named(root: int, name: str) -> int:
    """The descendant of a process with a name.

    Raises:
        LookupError: there is none.
    """
    found = next((pid for pid in tree(root)[1:] if name_of(pid) == name), None)
    if found is None:
        raise LookupError(f"expected a process {name} below {root}, found none")
    return found


@contextlib.contextmanager
def child(command: Sequence[str | Path], core: int | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own, on one core if it is named; nothing of it is left after the block.

    A session of its own keeps Ctrl-C for the one who can end the whole in order. Descendants are ended by what they
    are, not by their group: some programs give theirs other sessions.
    """
    before = [] if core is None else pinned(core)
    before += ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []  # if we are killed
    options.setdefault("cwd", ROOT)
    with subprocess.Popen([*before, *map(str, command)], text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            below = {pid: born(pid) for pid in tree(process.pid)}
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            for pid, at in below.items():
                if at and born(pid) == at:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            ends = time.monotonic() + STOP_S
            while any(at and born(pid) == at for pid, at in below.items()) and time.monotonic() < ends:
                time.sleep(0.01)
            process.wait()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program with a piped output says first; empty if it ends without a word."""
    return "" if process.stdout is None else process.stdout.readline()


def pinned(core: int) -> list[str]:
    """What starts a program on one core, where there are two."""
    return ["taskset", "-c", str(core)] if core < (os.cpu_count() or 1) else []


def pin(core: int) -> None:
    """Keep this process on one core, where there are two."""
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {"processor": model, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
