"""What releases this board takes: those for its Python, its C library and its processor."""

from __future__ import annotations

import os
import re
import sys

from console.errors import DoesNotFit
from wire.packed import Packed, system_words


def own_system() -> tuple[str, str, str]:
    """Python (`3.11`), glibc (`2.36`; `0` where the C library is another) and architecture of this program."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    found = re.fullmatch(r"glibc (\d+\.\d+)\S*", libc)
    return f"{sys.version_info[0]}.{sys.version_info[1]}", found[1] if found else "0", os.uname().machine


def own_words() -> str:
    """The same in words."""
    return system_words(*own_system())


def check_system(packed: Packed) -> None:
    """Refuse a release for another system.

    Raises:
        DoesNotFit: it is.
    """
    python, glibc, architecture = own_system()
    same = (packed.python, packed.architecture) == (python, architecture)
    if not same or _numbers(packed.glibc) > _numbers(glibc):
        raise DoesNotFit(
            f"expected a release for {own_words()}, found {packed.version} for {packed.system}; assign one that was "
            f"made for this board"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
