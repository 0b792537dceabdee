"""Programs of the system that tests start. Without them a test is skipped, but not where everything must run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

SOFTHSM = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
HINT = ".ci/packages installs it"


def mosquitto() -> str:
    """The broker."""
    return _needed("mosquitto", shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"))


def postgres() -> Path:
    """The folder of PostgreSQL's programs, of its newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return Path(_needed("postgresql", str(found[-1]) if found else None)).parent


def softhsm() -> tuple[str, Path]:
    """What makes tokens of a hardware module that is a program, and its library."""
    util = _needed("softhsm2", shutil.which("softhsm2-util"))
    return util, next(p for p in map(Path, SOFTHSM) if p.exists())


def program(name: str, package: str) -> str:
    """Any other one, by the package of Debian that brings it."""
    return _needed(package, shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"))


def debian_tools() -> None:
    """What unpacks packages of Debian, and where its keys are."""
    _needed("apt", shutil.which("apt-get"))
    keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    _needed("debian-archive-keyring", str(keys) if keys.exists() else None)


def qemu_system() -> str:
    """What emulates a whole arm64 machine."""
    return _needed("qemu-system-arm", shutil.which("qemu-system-aarch64"))


def qemu_user() -> str:
    """What runs one program of arm64 Linux."""
    return _needed("qemu-user-static", shutil.which("qemu-aarch64-static"))


def sshd() -> str:
    """The server of OpenSSH, by its whole path, as it wants to be started."""
    return _needed("openssh-server", shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"))


def image_tools() -> None:
    """What makes and changes images of cards, without mounting them."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for name, program in (
        ("fdisk", "sfdisk"),
        ("dosfstools", "mkfs.vfat"),
        ("e2fsprogs", "debugfs"),
        ("mtools", "mcopy"),
    ):
        _needed(name, shutil.which(program, path=path))


def ssh_client() -> str:
    """What logs in on a board."""
    return _needed("openssh-client", shutil.which("ssh"))


def _needed(name: str, found: str | None) -> str:
    if found is None:
        if os.environ.get("EDGEQUILT_ALL_PROGRAMS"):
            pytest.fail(f"{name} is not installed here, and every test must run; {HINT}")
        pytest.skip(f"{name} is not installed; {HINT}")
    return found
