"""`edgequilt agent status`: what the agent wrote of itself, and how the board is now."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.duration import words
from console.errors import HubError, TransportError
from console.table import mib, shown, table
from devices.payload.places import CURRENT

if TYPE_CHECKING:
    from edge.doctor.board import Board

NOT_RUNNING = 1


def status(given: argparse.Namespace) -> int:
    """Say how the agent is; 0: it runs, is connected and has nothing to complain of."""
    from edge.doctor.board import Board

    found = told(Board(given.config, Path(given.root)))
    if given.json:
        json.dump(found, sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        print(page(found))
    return health_code(found)


def told(board: Board) -> dict[str, Any]:
    """All that `--json` prints: status.json, whether the agent runs, and fresh readings of the board."""
    from edge.ended import read_end
    from edge.health.readings import read_health
    from edge.health.warnings import warnings

    health, ended, path = read_health(board.state, board.root), read_end(board.folder), board.state / "status.json"
    age_s = max(0.0, time.time() - path.stat().st_mtime) if path.exists() else None
    before = board.status.get("warnings") or []
    return {
        **board.status,
        "claimed": board.identity is not None or bool(board.status),
        "running": board.running,
        "written_s_ago": None if age_s is None else round(age_s, 1),
        "release": release_in_use(),
        "health": asdict(health),
        "warnings": sorted(warnings(health, frozenset(before))),
        "ended": None if ended is None or board.running else asdict(ended),
    }


def release_in_use(current: Path = Path(CURRENT)) -> str:
    """The version of the agent's own program: the release that the board starts, or else what is installed here."""
    if current.is_symlink():
        return current.readlink().name
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgequilt")
    except PackageNotFoundError:
        return ""


def health_code(found: dict[str, Any]) -> int:
    """The exit code of a status (docs/exit-codes.md)."""
    if not found["running"]:
        return NOT_RUNNING
    if not found.get("connected"):
        return TransportError.exit_code
    if found.get("trouble"):
        return HubError.exit_code
    return NOT_RUNNING if found["warnings"] else 0


def page(found: dict[str, Any]) -> str:
    """The same for people."""
    runs = {True: "runs", False: "does not run", None: "cannot be seen by this user"}[found["running"]]
    name = f"agent {found['device']} of {found['fleet']}" if found.get("device") else "an agent that never ran here"
    lines = [f"{name} {runs}" if found.get("device") else name, ""]
    lines.append(table(["what", "is"], [[what, shown(text)] for what, text in _rows(found) if text]))
    if found["ended"]:
        lines += ["", f"it ended {found['ended']['times']} times: {shown(found['ended']['sentence'])}"]
    if found["warnings"] or found.get("trouble") or not found["running"]:
        lines += ["", "edgequilt agent doctor says how to mend it"]
    return "\n".join(lines)


def _coming(told: dict[str, Any] | None) -> str:
    return "" if told is None else f"{told['state']}: {told['bytes']} of {told['of']} bytes"


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    health, released, jobs = found["health"], found.get("released"), found.get("jobs") or []
    coming = found.get("bundle_coming")
    last = jobs[-1] if jobs else None
    age = found["written_s_ago"]
    heat, up = health["temperature_c"], health["uptime_s"]
    return [
        ("connected", "yes" if found.get("connected") else "no"),
        ("trouble", found.get("trouble") or ""),
        ("model", found.get("model", "")),
        ("bundle", (found.get("bundle") or "")[:12] or "none yet"),
        ("bundle coming", f"{coming['bytes']} of {coming['of']} bytes" if coming else ""),
        ("version", str(released["version"]) if released else "none"),
        ("program", found["release"]),
        ("release coming", _coming(found.get("release_coming"))),
        ("release waits", found.get("release_waits") or ""),
        ("release not taken", found.get("release_failed") or ""),
        ("doing", found.get("phase", "")),
        ("updates waiting", str(found.get("waiting", 0))),
        ("last job", f"{last['kind']} of round {last['round']}: {last['state']}" if last and "kind" in last else ""),
        ("temperature", "" if heat is None else f"{heat:.0f} °C"),
        ("memory available", mib(health["memory_available_bytes"])),
        ("disk free", mib(health["disk_free_bytes"])),
        ("board is up", "" if up is None else words(up)),
        ("warnings", ", ".join(found["warnings"])),
        ("as of", "" if age is None else f"{words(age)} ago"),
    ]
