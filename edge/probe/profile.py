"""What was found as a profile, which planning reads back with `--profiles FOLDER`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from console.errors import UsageError
from devices.profile import Profile, parse
from edge.probe.probe import Probe
from wire.record import NAME, plain

GUESS = "unverified: the kernel does not say"
HEAD = """# What `edgequilt devices probe` found on this board. Put it into a folder of your own, and name it with
# --profiles; the name of the file is that of the profile.
"""
FALLBACK_HZ = 1_000_000_000


def profile_of(found: Probe, path: Path) -> Profile:
    """The profile that a file of that name holds.

    Raises:
        UsageError: the name is none that a profile may have.
        BadData: what was found contradicts itself.
    """
    check_name(path)
    return parse(_tables(found, path.stem), path.stem, path.name)


def check_name(path: Path) -> None:
    """Refuse what no profile can be called.

    Raises:
        UsageError: it is no such name.
    """
    if path.suffix != ".toml" or not re.fullmatch(NAME, path.stem):
        raise UsageError(
            f"expected --save NAME.toml with a name of lower-case letters, digits, dots and hyphens, found {path.name}"
        )


def _tables(found: Probe, name: str) -> dict[str, Any]:
    cpu, ram, system, source = found.cpu, found.ram, found.system, found.source
    total = ram.total_bytes or 1
    tables: dict[str, Any] = {
        "id": name,
        "title": system.board or cpu.model or name,
        "support": "measured",
        "agent": "yes",
        "soc": system.soc or cpu.model or "unknown",
        "architecture": cpu.architecture,
        "core": cpu.core,
        "isa": list(cpu.isa),
        "cores": _figure(cpu.cores, source),
        "clock_hz": _figure(cpu.clock_hz, source) if cpu.clock_hz else _figure(FALLBACK_HZ, GUESS),
        "memory_nominal_bytes": _figure(ram.nominal_bytes or 1, "unverified: the least that is sold and holds it"),
        "memory_total_bytes": _figure(total, source),
        "memory_available_bytes": _figure(min(ram.available_bytes or 1, total), source),
        # every byte is read and written
        "bandwidth_bytes_per_s": _figure(2 * found.copy_together_bytes_per_s, f"{source}, copying on all cores"),
        "copy_bytes_per_s": _figure(found.copy_bytes_per_s, source),
        "storage": [found.disk.device or "disk"] if found.disk else ["disk"],
        "network": list(found.interfaces),
        "rtc": system.rtc,
        "os": system.os,
        "python": ".".join(system.python.split(".")[:2]),
        "onnxruntime_max": system.onnxruntime,
        "providers": list(system.providers),
        "sources": dict.fromkeys(("cpu", "connections", "runtime"), source),
    }
    if found.disk is not None:
        tables["storage_write_bytes_per_s"] = _figure(found.disk.write_bytes_per_s, source)
        tables["storage_read_bytes_per_s"] = _figure(found.disk.read_bytes_per_s, source)
    if found.link.bytes_per_s:
        tables["link_bytes_per_s"] = _figure(found.link.bytes_per_s, f"{source}, from the agent's hub")
    if found.latency is not None:
        tables["latency"] = plain(found.latency)
    return tables


def _figure(value: int, source: str) -> dict[str, Any]:
    return {"value": max(1, value), "source": source}
