"""Whether an agent can live on a board that was looked at, and what its owner should know. Pure."""

from __future__ import annotations

import re

from console.errors import DoesNotFit, join
from console.table import mib
from devices.install.look import Look
from devices.payload.target import ARCHITECTURES, Target, target_of
from devices.profile import Profile, load, names

SPARE_BYTES = 100 << 20  # what a board's disk needs beside a release
CLOCK_S = 86400
OLDEST_SYSTEMD = 245  # of Ubuntu 20.04


def check(look: Look, profile: Profile | None, needs_root: bool = True) -> Target:
    """The board's system as wheels are chosen for it.

    Raises:
        DoesNotFit: no agent can live there; names every reason.
    """
    problems = [*_system(look), *_rights(look, needs_root)]
    if profile is not None and look.machine in ARCHITECTURES and profile.architecture != look.machine:
        problems.append(f"it is {look.machine}, and {profile.id} is {profile.architecture}: choose another --device")
    if problems:
        raise DoesNotFit(f"expected a board that an agent can live on, found one that is not: {join(problems)}")
    return target_of(look.version, look.glibc, look.machine)


def check_space(look: Look, needed_bytes: int) -> None:
    """Refuse a disk on which a release cannot lie beside the old one.

    Raises:
        DoesNotFit: says how much is free, and how much is needed.
    """
    needed = needed_bytes + SPARE_BYTES
    if needed_bytes and look.free_bytes < needed:
        raise DoesNotFit(
            f"expected {mib(needed)} free below /var/lib on the board, found {mib(look.free_bytes)}; free some space"
        )


def remarks(look: Look, now_s: float) -> list[str]:
    """What does not hinder, but should be known."""
    said = []
    if abs(look.clock_s - now_s) > CLOCK_S:
        said.append(
            "its clock is more than a day off: the agent believes its fleet all the same, its logs have that date"
        )
    if not look.limits_memory:
        said.append(
            "its kernel does not limit the memory of services: the agent limits its worker itself, nothing else does"
        )
    return said


def profile_for(look: Look) -> Profile | None:
    """The kind of board that it calls itself, by its memory where there are several; None: unknown."""
    fits = []
    for profile in map(load, names()):
        title = profile.title.split(",")[0].replace("+", " Plus")
        if title in look.model and profile.memory_nominal_bytes.value >= look.memory_bytes:
            fits.append(profile)
    return min(fits, key=lambda p: p.memory_nominal_bytes.value, default=None)


def _system(look: Look) -> list[str]:
    problems = []
    if "R32" in look.tegra:
        return ["JetPack 4 (Python 3.6, glibc 2.27) runs no agent; flash a newer JetPack where NVIDIA has one"]
    if look.machine not in ARCHITECTURES:
        problems.append(f"it is {look.machine or 'unknown'}, and agents need aarch64 or x86_64")
    elif look.bits != 64:
        problems.append("its kernel has 64 bits and its programs have 32: install the 64-bit system")
    if not look.glibc:
        problems.append("its C library is not glibc, for which the wheels of onnxruntime are made")
    if not look.python:
        problems.append("it has no python3: install it with the board's package manager")
    elif tuple(map(int, re.findall(r"\d+", look.version)[:2])) < (3, 10):
        problems.append(f"its Python is {look.version or 'broken'}, and agents need 3.10 or newer: take a newer system")
    if look.systemd < OLDEST_SYSTEMD:
        what = f"its systemd is {look.systemd}" if look.systemd else "systemd does not run there"
        problems.append(f"{what}, and the agent is a service of systemd {OLDEST_SYSTEMD} or newer")
    return problems


def _rights(look: Look, needs_root: bool) -> list[str]:
    if look.uid == 0 or not needs_root or look.sudo == "free":
        return []
    if look.sudo == "none":
        return ["who logs in is not root, and there is no sudo: log in as root, or install sudo"]
    return ["its sudo asks for a password: give it in a file with --sudo-password-file, or log in as root"]
