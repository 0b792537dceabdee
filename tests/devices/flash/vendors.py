"""Packages of Debian that say what a system wants: fetched once, unpacked and never configured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.emulated.cache import kept
from tests.emulated.debian import Apt
from tests.programs import debian_tools

RELEASE = "trixie"  # whose cloud-init Raspberry Pi OS has


def cloud_init() -> Path:
    """The files of the package cloud-init; its schemas and units are its own."""
    debian_tools()
    return kept("cloud-init", repr((RELEASE, "cloud-init")), _make) / "tree"


def _make(folder: Path) -> None:
    package = Apt(folder / "apt", RELEASE).alone("cloud-init")
    subprocess.run(["dpkg-deb", "--extract", package, folder / "tree"], check=True, timeout=300)
