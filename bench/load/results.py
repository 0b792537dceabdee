"""What a benchmark has found so far, cell by cell, in a file that a later run goes on with."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from console.table import table
from wire.files import write_atomic


def read(path: Path) -> dict[str, Any]:
    """What is there; nothing where there is no file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def keep(path: Path, cell: str, found: dict[str, Any]) -> None:
    """Add a cell, or put it in the place of the one that was there."""
    known = read(path)
    known.setdefault("cells", {})[cell] = found
    write_atomic(path, json.dumps(known, indent=1).encode() + b"\n")


def put_between(document: Path, name: str, text: str) -> None:
    """Put a text between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a document."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, _, rest = document.read_text(encoding="utf-8").partition(begin)
    write_atomic(document, f"{head}{begin}{text}\n{end}{rest.partition(end)[2]}".encode())


def versions() -> dict[str, str]:
    """Of what is measured."""
    shown = subprocess.run(["/usr/sbin/mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
    names = ("paho-mqtt", "msgpack", "SQLAlchemy", "numpy", "cryptography")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "mosquitto": shown.partition("\n")[0].split()[-1], **found}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range.

    >>> spread([1, 2, 4])
    '2.00 (1.00 to 4.00)'
    """
    if not values:
        return "-"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def drawn(header: list[str], rows: list[list[str]], *, markdown: bool) -> str:
    """A table for a terminal, or as Markdown."""
    if not markdown:
        return table(header, rows)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
