"""Our own code as it goes to a board: the rooms as they are imported here, whether from a checkout or a wheel."""

from __future__ import annotations

import re
from pathlib import Path

from console.errors import StorageError
from devices.payload.needs import HERE
from devices.payload.placed import Placed

ROOMS = ("console", "wire", "devices", "quant", "export", "edge", "hub", "sim")  # every wheel holds every room
COMMAND = "edgequilt.py"


def version() -> str:
    """Ours, as the command's file says it (`devices` does not import the command).

    Raises:
        StorageError: the file is not there.
    """
    path = HERE / COMMAND
    try:
        found = re.search(r'^__version__ = "([^"]+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError as error:
        raise StorageError(f"expected edgequilt's own code at {HERE}, found none; install it with pip") from error
    if found is None:
        raise StorageError(f"expected a version in {path}, found none; install edgequilt again")
    return found[1]


def own_files(folder: str) -> tuple[Placed, ...]:
    """Our files, to be placed below a folder of a board, and what tells their version to `importlib.metadata`."""
    said = version()
    head = f"Metadata-Version: 2.1\nName: edgequilt\nVersion: {said}\n".encode()
    files = [Placed(f"{folder}/edgequilt-{said}.dist-info/METADATA", head), _placed(HERE / COMMAND, folder)]
    for room in ROOMS:
        paths = sorted(path for path in (HERE / room).rglob("*") if path.is_file())
        files += [_placed(path, folder) for path in paths if path.suffix != ".pyc"]
    return tuple(files)


def _placed(path: Path, folder: str) -> Placed:
    return Placed(f"{folder}/{path.relative_to(HERE).as_posix()}", path)
