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
    "sfdisk": "fdisk",
    "lsblk": "util-linux",
    "cp": "coreutils",
}
SBIN = "/usr/sbin:/sbin"
ENVIRONMENT = {"LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1", "DEBUGFS_PAGER": "cat", "PAGER": "cat"}


def tool(name: str) -> str:
    """Where a program is.

    Raises:
        MissingDependency: it is not installed; names Debian's package.
    """
    found = _found(name)
    if found is None:
        raise MissingDependency(f"expected the program {name}, found none; on Debian: apt-get install {PACKAGES[name]}")
    return found


def require(names: Sequence[str]) -> None:
    """All of them, before minutes of work that need the last one.

    Raises:
        MissingDependency: some are not installed; names all of them, and Debian's packages.
    """
    absent = [name for name in names if _found(name) is None]
    if absent:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in absent))
        raise MissingDependency(
            f"expected the programs {', '.join(names)}, found no {', '.join(absent)}; on Debian: apt-get install "
            f"{packages}"
        )


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


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
