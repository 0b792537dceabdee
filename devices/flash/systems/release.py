"""What a root file system says of itself: its name, its Python, its C library, its processor."""

from __future__ import annotations

import re

from console.errors import BadData
from devices.flash.changes import Tree
from devices.payload.target import Target, target_of

MACHINES = {183: "aarch64", 62: "x86_64", 40: "armv7l", 3: "i686"}  # e_machine of ELF
LIBRARIES = ("/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib")


def os_release(root: Tree) -> dict[str, str]:
    """The fields of /etc/os-release."""
    text = root.read("/etc/os-release") or root.read("/usr/lib/os-release") or b""
    lines = (line.partition("=") for line in text.decode(errors="replace").splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in lines if equals}


def target_of_root(root: Tree) -> Target:
    """For which Python, glibc and processor wheels are chosen.

    Raises:
        BadData: the root does not say.
        DoesNotFit: no agent runs there.
    """
    python, glibc, machine = _python(root), _glibc(root), _machine(root)
    absent = [name for name, found in (("Python 3", python), ("glibc", glibc), ("a program", machine)) if found is None]
    if absent:
        raise BadData(
            f"expected {', '.join(absent)} in the image's root, found none; an agent needs Python 3.10 or newer: take "
            "an image that has it"
        )
    return target_of(str(python), str(glibc), str(machine))


def _python(root: Tree) -> str | None:
    names = [re.fullmatch(r"python(3\.\d+)", name) for name in root.names("/usr/bin")]
    found = sorted({match[1] for match in names if match}, key=lambda v: int(v.partition(".")[2]))
    linked = root.read("/usr/bin/python3")
    if not found or linked is None:
        return None
    # /usr/bin/python3 is one of them: the one with the same bytes
    return next((v for v in reversed(found) if root.read(f"/usr/bin/python{v}") == linked), found[-1])


def _glibc(root: Tree) -> str | None:
    """What the library says of itself, or else what the packages say of it."""
    for folder in LIBRARIES:
        said = re.search(rb"GNU C Library [^\n]*version (2\.\d+)", root.read_whole(f"{folder}/libc.so.6") or b"")
        if said:
            return said[1].decode()
    status = (root.read_whole("/var/lib/dpkg/status") or b"").decode(errors="replace")
    found = re.search(r"^Package: libc6\n(?:.+\n)*?Version: (2\.\d+)", status, re.MULTILINE)
    return found[1] if found else None


def _machine(root: Tree) -> str | None:
    head = root.read("/usr/bin/python3") or b""
    return MACHINES.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
