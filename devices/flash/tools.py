"""Programs of the system that flashing runs: nothing is mounted, so nothing of this needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from console.errors import MissingDependency, StorageError

PACKAGES = {
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "mcopy": "mtools",
    "mdel": "mtools",
    "mmd": "mtools",
    "mdir": "mtools",
    "minfo": "mtools",
    "sfdisk": "fdisk",
    "lsblk": "util-linux",
}
SBIN = "/usr/sbin:/sbin"
ENVIRONMENT = {"LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1", "DEBUGFS_PAGER": "cat", "PAGER": "cat"}


def tool(name: str) -> str:
    """Where a program is.

    Raises:
        MissingDependency: it is not installed; names Debian's package.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if found is None:
        raise MissingDependency(f"expected the program {name}, found none; on Debian: apt-get install {PACKAGES[name]}")
    return found


def run(name: str, arguments: Sequence[str | Path], ok: Sequence[int] = (0,), given: str = "") -> bytes:
    """What a program prints.

    Args:
        name: of the program.
        arguments: as they are.
        ok: exit codes that are none of failures.
        given: for its standard input.

    Raises:
        MissingDependency: it is not installed.
        StorageError: it failed; says its own words.
    """
    done = attempt(name, arguments, given)
    if done.returncode not in ok:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise StorageError(f"expected {name} to do its work, it ended with {done.returncode}: {' / '.join(said[:3])}")
    return done.stdout


def attempt(name: str, arguments: Sequence[str | Path], given: str = "") -> subprocess.CompletedProcess[bytes]:
    """The same, whatever it ends with."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        input=given.encode(),
        capture_output=True,
        check=False,
        env={**os.environ, **ENVIRONMENT},
    )
