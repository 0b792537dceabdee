"""All that an agent needs on a board, as one payload: release, launcher, command, unit, settings, bundle, data."""

from __future__ import annotations

from pathlib import Path

from console.errors import StorageError
from devices.payload.needs import HERE
from devices.payload.placed import Payload, Placed
from devices.payload.places import BUNDLE, COMMAND, DATA, LAUNCHER
from devices.payload.release import Release
from devices.payload.settings import Settings, settings_payload
from devices.payload.unit import PYTHON, unit_payload
from devices.profile import Profile

LAUNCH = HERE / "edge" / "slots" / "launch.py"  # taken as a file: this room does not import that one


def agent_payload(
    release: Release,
    settings: Settings,
    profile: Profile | None = None,
    *,
    bundle: Path | None = None,
    data: Path | None = None,
    python: str = PYTHON,
) -> Payload:
    """What shall be on a board so that it starts as an agent.

    Args:
        release: for the board's system.
        settings: what it is told.
        profile: the kind of board, for limits of memory.
        bundle: a bundle's folder of this machine, to begin with.
        data: samples of this machine to begin with: a folder.
        python: the interpreter on the board.

    Raises:
        UsageError: the token or the hub's address is none.
        StorageError: something of it is not there to be read.
    """
    parts = [release.payload, program(python), unit_payload(profile, python), settings_payload(settings)]
    parts += [carried(bundle, BUNDLE, "manifest.json")] if bundle is not None else []
    parts += [carried(data, DATA)] if data is not None else []
    return sum(parts, Payload())


def program(python: str = PYTHON) -> Payload:
    """The launcher, and the command `edgequilt` that starts whatever release is current."""
    try:
        launcher = LAUNCH.read_bytes()
    except OSError as error:
        raise StorageError(f"expected the launcher at {LAUNCH}, found none; install edgequilt again") from error
    line = f'#!/bin/sh\nexec {python} {LAUNCHER} "$@"\n'
    return Payload((Placed(LAUNCHER, launcher), Placed(COMMAND, line.encode(), 0o755)))


def carried(folder: Path, to: str, needed: str = "") -> Payload:
    """A folder of this machine, to be placed on the board.

    Raises:
        StorageError: it is not there, or lacks what it must hold.
    """
    if not (folder / needed).exists() or not folder.is_dir():
        raise StorageError(f"expected a folder{f' with {needed}' if needed else ''} at {folder}, found none")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return Payload(tuple(Placed(f"{to}/{path.relative_to(folder).as_posix()}", path) for path in paths))
