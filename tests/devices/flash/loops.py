"""Loop devices: disks of the kernel whose medium is a file; without them, or without root, tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop(medium: Path) -> Iterator[Path]:
    """A disk with this medium."""
    disk = Path(_losetup("--show", "--find", str(medium)))
    try:
        yield disk
    finally:
        _losetup("--detach", str(disk))


def change(disk: Path, medium: Path) -> None:
    """Take its medium out, and put another one in."""
    _losetup("--detach", str(disk))
    _losetup(str(disk), str(medium))


def _losetup(*words: str) -> str:
    program = shutil.which("losetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        pytest.skip("losetup and root make disks of files; one of them is missing")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this kernel has no loop devices for us: {done.stderr.strip()}")
    return done.stdout.strip()
