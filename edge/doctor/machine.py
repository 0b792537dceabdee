"""Checks of the board itself: its Python, its runtime, memory, heat and power, disk."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from console.table import mib
from devices.budget import training_budget_bytes
from devices.profile import load, names
from devices.runtimes import OLDEST, release_of
from edge.config import Config
from edge.doctor.board import Board
from edge.doctor.finding import Finding, ok, problem, unknown, warning
from edge.health.readings import Health, free_bytes, read_health
from edge.health.warnings import LIMITS, SAYS, warnings
from edge.memory import available_bytes
from edge.setup import runtime_version

PYTHON = (3, 10)
# MIDR_EL1 part numbers of Arm's cores, as /proc/cpuinfo has them (Arm's Technical Reference Manuals)
PARTS = {0xD03: "Cortex-A53", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD0B: "Cortex-A76", 0xD42: "Cortex-A78AE"}
IMPORT_S = 60.0
LOW_BYTES = int(LIMITS["disk-low"].begins)
CGROUP = "sys/fs/cgroup/system.slice/{unit}/memory.events"


def python(board: Board) -> Finding:
    """Whether this interpreter can run the agent."""
    return judge_python(sys.version_info[:2], sys.maxsize > 2**32, platform.machine())


def judge_python(version: tuple[int, int], wide: bool, machine: str) -> Finding:
    """From 3.10 on, of 64 bits."""
    said = f"Python {version[0]}.{version[1]} of {64 if wide else 32} bits on {machine}"
    if not wide:
        return problem(said, "use a 64-bit system: there is no onnxruntime for 32 bits")
    if version < PYTHON:
        return problem(said, "use a system with Python 3.10 or newer")
    return ok(said)


def runtime(board: Board) -> Finding:
    """Whether onnxruntime is here, fits the cores, and can be loaded."""
    found = runtime_version()
    cores = cores_of(board.root)
    judged = judge_runtime(found, cores, avoided(cores))
    return judged if judged.level == "problem" else _loads(judged)


def judge_runtime(found: str, cores: Collection[str], avoid: Collection[str]) -> Finding:
    """By its version alone; `found` is "onnxruntime 1.31.1", empty if there is none."""
    install = "install another one: pip install 'onnxruntime>=1.22,!=1.21.0', or install this board anew"
    if not found:
        return problem("there is no onnxruntime", "pip install 'edgequilt[edge]', or install this board anew")
    version = found.rpartition(" ")[2]
    if version in avoid:
        return problem(f"{found} ends with SIGILL on {', '.join(sorted(cores))}", install)
    if release_of(version) < release_of(OLDEST):
        return problem(f"{found} is older than {OLDEST}", install)
    return ok(f"{found} on {', '.join(sorted(cores)) or 'cores that nobody described'}")


def cores_of(root: Path) -> set[str]:
    """The names of the cores, as profiles have them; those that are unknown are left out."""
    with suppress(OSError, ValueError):
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return {
            PARTS[int(part, 16)] for part in re.findall(r"CPU part\s*:\s*(0x[0-9a-f]+)", text) if int(part, 16) in PARTS
        }
    return set()


def avoided(cores: Collection[str]) -> set[str]:
    """The releases of onnxruntime that profiles with such a core say not to use."""
    profiles = [load(name) for name in names()] if cores else []
    return {version for profile in profiles if profile.core in cores for version in profile.onnxruntime_avoid}


def _loads(judged: Finding) -> Finding:
    """Load it for a moment, in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import onnxruntime"], capture_output=True, timeout=IMPORT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return warning(f"{judged.says}, which takes longer than {IMPORT_S:.0f} s to load", "see what else runs")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return problem(f"{judged.says} is ended by {name} when it is loaded", "install another release of onnxruntime")
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return problem(f"{judged.says} cannot be loaded: {last}", "install this board anew")
    return judged


def memory(board: Board) -> Finding:
    """Whether the bundle's worker has the memory that its plan says."""
    available = available_bytes(board.root)
    own = int(board.status.get("core_bytes") or 0) if board.running else 0
    wanted = board.config.budget_bytes if isinstance(board.config, Config) else None
    plan = board.plan
    needs = wanted or (plan.predicted_bytes or plan.budget_bytes if plan is not None else None)
    return judge_memory(None if available is None else available + own, needs, _killed(board))


def judge_memory(available: int | None, needs: int | None, killed: int) -> Finding:
    """By what is free now without the agent, what the worker may need at its peak, and how often the kernel killed."""
    mend = "end other programs, export or assign a bundle with a smaller --budget, or take a larger board"
    if killed:
        return problem(f"the kernel killed the agent's processes {killed} times for lack of memory", mend)
    if available is None:
        return unknown("the kernel does not say what memory is available")
    if needs is None:
        return ok(f"{mib(available)} available, no bundle yet")
    room = training_budget_bytes(available)
    if needs > available:
        return problem(f"the bundle's worker may need {mib(needs)}, and {mib(available)} are available", mend)
    if needs > room:
        return warning(f"the bundle's worker may need {mib(needs)}, {mib(room)} are meant for it of what is free", mend)
    return ok(f"{mib(available)} available, the bundle's worker may need {mib(needs)}")


def _killed(board: Board) -> int:
    """How often the kernel killed for the unit's limit, since it was started."""
    with suppress(OSError, ValueError):
        text = (board.root / CGROUP.format(unit=board.unit)).read_text(encoding="ascii")
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])
    return 0


def power(board: Board) -> Finding:
    """Heat, the supply, and whether the cores are slowed down."""
    return judge_power(read_health(board.state, board.root))


def judge_power(health: Health) -> Finding:
    """By the readings; what was, is a warning."""
    now = [name for name in ("under-voltage", "throttled", "hot") if name in warnings(health)]
    heat = "" if health.temperature_c is None else f"{health.temperature_c:.0f} °C"
    if now:
        return problem(", ".join([*now, *([heat] if heat else [])]), "; ".join(SAYS[name] for name in now))
    if health.under_voltage_seen:
        return warning("the supply was too weak since the board started", SAYS["under-voltage"])
    if health.throttled_seen:
        return warning("the board was slowed down since it started", SAYS["hot"])
    if health.under_voltage is None and not heat:
        return unknown("the kernel says nothing of heat and power")
    return ok(", ".join(filter(None, [heat, "" if health.under_voltage is None else "a good supply"])))


def disk(board: Board) -> Finding:
    """Whether the state folder takes files, and has room."""
    folder = next((path for path in (board.state, *board.state.parents) if path.is_dir()), board.state)
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor.") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        refused = ""
    except OSError as error:
        refused = error.strerror or str(error)
    told = os.statvfs(folder)
    return judge_disk(folder, free_bytes(folder) or 0, told.f_favail if told.f_files else None, refused)


def judge_disk(folder: Path, free: int, files: int | None, refused: str) -> Finding:
    """By its room, by how many files it still takes (None: any number), and by what a small write said."""
    said = f"{folder}: {mib(free)} free"
    room = f"free some space on the disk of {folder} (journalctl --vacuum-size=50M, apt clean, old data)"
    if refused:
        readonly = "Read-only" in refused
        mend = "the card may be dying: copy it, check it (fsck), replace it" if readonly else room
        mend = "run this as root, or see who owns the folder" if "ermission" in refused else mend
        return problem(f"{said}, but it takes no file ({refused})", mend)
    if files is not None and files < 100:
        return problem(f"{said}, but it takes only {files} more files", f"remove small files from the disk of {folder}")
    return ok(said) if free >= LOW_BYTES else problem(said, room)
