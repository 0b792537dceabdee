"""What a board says of itself, whether an agent can live there, and whether it does. All pure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("packaging")

from console.errors import DoesNotFit
from devices.install.fitness import check, check_space, profile_for, remarks
from devices.install.health import beat, verdict
from devices.install.look import SCRIPT, Look, read_look
from devices.payload.target import Target
from devices.profile import load

PI = Look(
    uid=1000,
    machine="aarch64",
    bits=64,
    glibc="2.36",
    python="/usr/bin/python3",
    version="3.11.2",
    systemd=252,
    sudo="free",
    free_bytes=8 << 30,
    memory_bytes=3788 << 20,
    clock_s=1_800_000_000,
    model="Raspberry Pi 4 Model B Rev 1.4",
    tegra="",
    limits_memory=True,
    system="Debian GNU/Linux 12 (bookworm)",
)
REFUSED = {
    "32-bit programs": ({"bits": 32}, "its kernel has 64 bits and its programs have 32: install the 64-bit system"),
    "32-bit kernel": ({"machine": "armv7l", "bits": 32}, "it is armv7l, and agents need aarch64 or x86_64"),
    "JetPack 4": ({"tegra": "# R32 (release), REVISION: 7.1", "version": "3.6.9", "glibc": "2.27"}, "JetPack 4 "),
    "old Python": ({"version": "3.8.10"}, "its Python is 3.8.10, and agents need 3.10 or newer"),
    "no Python": ({"python": "", "version": ""}, "it has no python3"),
    "musl": ({"glibc": ""}, "its C library is not glibc"),
    "no systemd": ({"systemd": 0}, "systemd does not run there"),
    "old systemd": ({"systemd": 237}, "its systemd is 237"),
    "sudo asks": ({"sudo": "asks"}, "--sudo-password-file"),
    "no sudo": ({"sudo": "none"}, "there is no sudo"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_a_board_that_is_not_fit_is_refused(change: dict[str, object], said: str) -> None:
    """Each reason is a sentence that names what was found."""
    with pytest.raises(
        DoesNotFit, match=r"expected a board that an agent can live on, found one that is not: "
    ) as seen:
        check(replace(PI, **change), None)  # type: ignore[arg-type]
    assert said in str(seen.value)


def test_all_reasons_are_said_at_once() -> None:
    """Who has to change a board wants to do it once."""
    with pytest.raises(DoesNotFit) as seen:
        check(replace(PI, version="3.9.2", systemd=0, sudo="none"), None)
    assert str(seen.value).count("; ") == 2


def test_a_fit_board_names_its_system() -> None:
    """The Python, C library and processor for which wheels are chosen are the board's own; root needs no sudo."""
    assert check(PI, load("raspberry-pi-4-4gb")) == Target("3.11", "2.36", "aarch64")
    assert check(replace(PI, uid=0, sudo="none"), None) == Target("3.11", "2.36", "aarch64")
    with pytest.raises(DoesNotFit, match="it is aarch64, and generic-x86-mini is x86_64: choose another --device"):
        check(PI, load("generic-x86-mini"))


def test_a_disk_without_room_is_refused_only_if_something_is_sent() -> None:
    """The release must fit beside the old one, with something left; nothing to send needs nothing."""
    full = replace(PI, free_bytes=200 << 20)
    with pytest.raises(DoesNotFit, match=r"expected 268\.0 MiB free below /var/lib on the board, found 200\.0 MiB"):
        check_space(full, 168 << 20)
    check_space(full, 90 << 20)
    check_space(replace(PI, free_bytes=0), 0)


@pytest.mark.parametrize(
    ("model", "memory_mib", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", 3788, "raspberry-pi-4-4gb"),
        ("Raspberry Pi 4 Model B Rev 1.1", 909, "raspberry-pi-4-1gb"),
        ("Raspberry Pi 5 Model B Rev 1.0", 8063, "raspberry-pi-5-8gb"),
        ("Raspberry Pi Zero 2 W Rev 1.0", 417, "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 905, "raspberry-pi-3b-plus"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", 4040, "raspberry-pi-cm5-4gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 7620, "jetson-orin-nano-8gb"),
        ("Some Other Board", 2000, None),
        ("", 2000, None),
    ],
)
def test_boards_that_say_who_they_are_are_known(model: str, memory_mib: int, name: str | None) -> None:
    """From what the kernel calls the board and how much memory it has, its profile follows; else there is none."""
    found = profile_for(replace(PI, model=model, memory_bytes=memory_mib << 20))
    assert (found.id if found else None) == name


def test_what_should_be_known_is_said() -> None:
    """A clock that is off, and a kernel that limits no memory, hinder nothing and are said."""
    assert remarks(PI, PI.clock_s + 5.0) == []
    assert "clock is more than a day off" in remarks(replace(PI, clock_s=0), PI.clock_s)[0]
    assert "does not limit the memory" in remarks(replace(PI, limits_memory=False), PI.clock_s)[0]


def test_this_machine_can_be_looked_at() -> None:
    """The script is plain shell, and what it says of this machine is what Python and coreutils say."""
    done = subprocess.run(["sh", "-c", SCRIPT, "sh", "/"], capture_output=True, text=True, check=True)
    look = read_look(done.stdout)

    assert look.machine == subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert look.uid == int(subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout)
    assert abs(look.free_bytes - shutil.disk_usage("/var/lib").free) < 1 << 30
    assert look.bits == (64 if sys.maxsize > 2**32 else 32)
    assert look.memory_bytes > 64 << 20
    assert look.clock_s > 1_700_000_000


def test_an_answer_of_nothing_is_a_look_of_nothing() -> None:
    """A shell that says nothing, or nonsense, gives a look that is refused, not a crash."""
    for text in ("", "uid=x\nbits=\nfree_kib=-3\nlibc=musl\n", "\0=\n=\n"):
        with pytest.raises(DoesNotFit):
            check(read_look(text), None)


def beats(*told: tuple[float, str, int]) -> list[object]:
    """Beats of (time, state, restarts)."""
    return [beat(at, f"ActiveState={state}\nNRestarts={restarts}\n") for at, state, restarts in told]


@pytest.mark.parametrize(
    ("told", "expected"),
    {
        "at once": ([(0, "active", 0)], "wait"),
        "steady": ([(0, "active", 0), (3, "active", 0), (5, "active", 0)], "healthy"),
        "slow": ([(0, "activating", 0), (90, "activating", 0), (91, "active", 0)], "wait"),
        "slow, then steady": ([(0, "activating", 0), (91, "active", 0), (96, "active", 0)], "healthy"),
        "begins again": ([(0, "active", 0), (4, "active", 1), (6, "active", 1)], "wait"),
        "begins again and stays": ([(0, "active", 0), (4, "active", 1), (9, "active", 1)], "healthy"),
        "again and again": ([(0, "activating", 4), (5, "activating", 7)], "failed"),
        "an older service's restarts": ([(0, "active", 7), (5, "active", 7)], "healthy"),
        "failed": ([(0, "activating", 0), (1, "failed", 0)], "failed"),
        "never": ([(0, "activating", 0), (180, "activating", 0)], "failed"),
        "not there": ([(0, "", 0)], "wait"),
    }.values(),
)
def test_when_a_service_counts_as_healthy(told: list[tuple[float, str, int]], expected: str) -> None:
    """Five seconds without a restart; three restarts, a failure or three minutes are the end of waiting."""
    assert verdict(beats(*told)) == expected  # type: ignore[arg-type]
