"""A folder for what a run of flashing makes on its way: for its user alone, locked, and swept away if a run was killed.

Everything that holds a token lies in such a folder. A run that ends by itself, or by Ctrl-C or SIGTERM, removes its
own. One that was killed cannot; its lock is gone with it, and the next run that works in the same place removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console.errors import StorageError

PREFIX = ".edgequilt-flash-"
LOCK = "lock"
TRIES = 9
# debugfs and mtools read these as the beginning of an offset
MEANT = ("?", "@@", "\n", "\r")


@contextmanager
def work_folder(near: Path | None = None) -> Iterator[Path]:
    """A fresh folder with mode 0700, gone at the end whatever happens.

    Args:
        near: where; None: the folder for temporary files.

    Raises:
        StorageError: nothing can be written there, or debugfs could not name it.
    """
    parent = Path(tempfile.gettempdir()) if near is None else near
    if any(sign in str(parent) for sign in MEANT):
        raise StorageError(f"expected to unpack in a folder without '?', '@@' or line breaks, found {str(parent)!r}")
    try:
        sweep(parent)
        folder, lock = _locked(parent)
    except OSError as error:
        raise StorageError(f"expected to unpack in {parent}, found: {error.strerror}; say --work DIR") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove what runs of this user left here that no longer live."""
    for folder in parent.glob(f"{PREFIX}*"):
        lock = _lock(folder) if _ours(folder) else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(parent: Path) -> tuple[Path, int]:
    """Made, and locked before somebody else took it for one that was left."""
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _lock(folder)
        if lock is not None and (folder / LOCK).exists():
            return folder, lock
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)
    raise StorageError(f"expected to lock a file in {parent}, found a disk that knows no locks; say --work DIR")


def _lock(folder: Path) -> int | None:
    """The lock of a folder; None where a run that lives has it, or where it is gone."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _ours(folder: Path) -> bool:
    """A folder that this user made, no link to another one."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
