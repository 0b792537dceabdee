"""What a board's system offers to libraries: a Python, a C library, a processor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from console.errors import DoesNotFit, UsageError

OLDEST_PYTHON = (3, 10)
ARCHITECTURES = ("aarch64", "x86_64")
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Target:
    """For which system wheels are chosen.

    Attributes:
        python: `3.11`: major and minor.
        glibc: `2.36`.
        architecture: `aarch64` or `x86_64`.
    """

    python: str
    glibc: str
    architecture: str = "aarch64"

    def __str__(self) -> str:
        return f"Python {self.python}, glibc {self.glibc}, {self.architecture}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run there, the newest first; pip expands no glibc version downwards.

        >>> Target("3.11", "2.18").platforms
        ('manylinux_2_18_aarch64', 'manylinux_2_17_aarch64', 'manylinux2014_aarch64', 'linux_aarch64')
        """
        oldest = 17 if self.architecture == "aarch64" else 5  # PEP 600: before that there was no aarch64
        names = []
        for minor in range(int(self.glibc.split(".")[1]), oldest - 1, -1):
            names.append(f"manylinux_2_{minor}")
            names += [_OLD_NAMES[minor]] if minor in _OLD_NAMES else []
        return tuple(f"{name}_{self.architecture}" for name in [*names, "linux"])

    @property
    def abis(self) -> tuple[str, ...]:
        """The ABI tags of wheels that run there.

        >>> Target("3.13", "2.41").abis
        ('cp313', 'abi3', 'none')
        """
        return (f"cp{self.python.replace('.', '')}", "abi3", "none")

    @property
    def markers(self) -> dict[str, str]:
        """What environment markers (PEP 508) see there."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def target_of(python: str, glibc: str, architecture: str) -> Target:
    """A system as a board or an image tells of it.

    Args:
        python: `3.11` or `3.11.2`.
        glibc: `2.36`.
        architecture: as `uname -m` says.

    Raises:
        UsageError: these are no versions.
        DoesNotFit: no agent runs there.

    >>> target_of("3.11.2", "2.36", "aarch64")
    Target(python='3.11', glibc='2.36', architecture='aarch64')
    """
    versions = re.fullmatch(r"(\d+)\.(\d+)(\.\S*)?", python), re.fullmatch(r"2\.(\d+)(\.\d+)?", glibc)
    if versions[0] is None or versions[1] is None:
        raise UsageError(f"expected versions such as 3.11 and 2.36 of Python and glibc, found {python!r} and {glibc!r}")
    if architecture not in ARCHITECTURES:
        raise DoesNotFit(
            f"expected a system of {' or '.join(ARCHITECTURES)}, found {architecture}; agents need a 64-bit system"
        )
    found = int(versions[0][1]), int(versions[0][2])
    if found < OLDEST_PYTHON:
        raise DoesNotFit(
            f"expected Python 3.10 or newer on the board, found {python}; a newer release of its system has it"
        )
    return Target(f"{found[0]}.{found[1]}", f"2.{versions[1][1]}", architecture)
