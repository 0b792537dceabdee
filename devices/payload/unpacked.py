"""A wheel as the files that an import finds: what `pip install --target` makes of it, and the same on every machine.

Left out: scripts and headers of `*.data/`, which name an interpreter or a compiler of this machine.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import lzma
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from console.errors import IntegrityError, StorageError
from devices.payload.wheelhouse import Wheel
from wire.files import inside

IMPORTED = ("purelib", "platlib")
# of the standard library, for damaged archives; TypeError: a digest whose length nobody said
DAMAGED: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(KeyError, ValueError, TypeError, NotImplementedError, RuntimeError),
)


def unpack(wheel: Wheel, cache: Path) -> Path:
    """The folder of a wheel's files, unpacked once into a cache; whole or not there.

    Raises:
        IntegrityError: the file is no wheel, or its files are not those of its RECORD.
        StorageError: it cannot be read, or its files cannot be written.
    """
    folder = cache / "unpacked" / f"{wheel.name}-{wheel.version}-{wheel.sha256[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        beside.chmod(0o755)
        _unpack(wheel.path, beside)
        beside.rename(folder)
    except DAMAGED as error:
        raise IntegrityError(
            f"expected a wheel in {wheel.path}, found something else ({error}); remove it and fetch it again"
        ) from error
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise StorageError(
                f"expected to unpack {wheel.path} to {folder.parent}, stopped: {error.strerror or error}; make room "
                "there, or remove the wheel and fetch it again"
            ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        records = [name for name in names if name.count("/") == 1 and name.endswith(".dist-info/RECORD")]
        if not records:
            raise ValueError("it has no RECORD")
        record = records[0]
        promised = {row[0]: row[1] for row in csv.reader(archive.read(record).decode().splitlines()) if row}
        for name in names:
            place = _place(name)
            if place is None:
                continue
            data = archive.read(name)
            if promised.get(name, ""):
                _check(path, name, data, promised[name])
            file = inside(folder, place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(0o755 if archive.getinfo(name).external_attr >> 16 & 0o111 else 0o644)


def _place(name: str) -> str | None:
    """Where a wheel's file goes; None: nowhere.

    >>> _place("a/b.py"), _place("a-1.data/purelib/a/c.py"), _place("a-1.data/scripts/a")
    ('a/b.py', 'a/c.py', None)
    """
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return name
    kind, _, place = rest.partition("/")
    return place if kind in IMPORTED else None


def _check(path: Path, name: str, data: bytes, promised: str) -> None:
    method, _, value = promised.partition("=")
    found = base64.urlsafe_b64encode(hashlib.new(method, data).digest()).rstrip(b"=").decode()
    if found != value:
        raise IntegrityError(f"expected {name} of {path.name} as its RECORD says, found other bytes; fetch it again")
