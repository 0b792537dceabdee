"""Wheels of a few bytes, in folders as `--wheelhouse` takes them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from devices.payload.needs import needs
from devices.payload.target import Target


def tiny(
    folder: Path,
    name: str,
    version: str,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    python: str = ">=3.8",
    files: dict[str, bytes] | None = None,
) -> Path:
    """A wheel whose module says its own name, its version and its tag."""
    module = name.replace("-", "_")
    about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}"]
    held = {
        f"{module}/__init__.py": f"VERSION = {version!r}\nTAG = {tag!r}\n".encode(),
        **(files or {}),
        f"{module}-{version}.dist-info/METADATA": "\n".join(
            [*about, *(f"Requires-Dist: {r}" for r in requires), ""]
        ).encode(),
        f"{module}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = f"{module}-{version}.dist-info/RECORD"
    lines = [f"{path},sha256={_b64(data)},{len(data)}" for path, data in held.items()]
    path = folder / f"{module}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for place, data in {**held, record: "\n".join([*lines, f"{record},,"]).encode()}.items():
            archive.writestr(place, data)
    return path


def house(folder: Path, target: Target) -> Path:
    """A wheelhouse with something for each name that an agent needs on a system."""
    for wanted in needs(target):
        name, _, version = wanted.partition(">=")
        tiny(folder, name, version)
    return folder


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
