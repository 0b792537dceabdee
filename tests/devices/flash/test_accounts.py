"""Who may log in, and what he may do: the same on every system."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace
from typing import Any

import pytest

from console.errors import BadData, UsageError
from devices.flash.ssh_keys import ssh_key_problem
from devices.flash.systems.accounts import SUDOERS
from devices.flash.systems.basics import WATCHDOG
from devices.flash.systems.raspios import FIRST_SUDO
from devices.flash.wishes import Wishes
from tests.devices.flash.roots import CARDS, GROUP, PASSWD
from tests.devices.flash.seen import KEY, WISHES, flashed

PEOPLE = PASSWD + b"pi:x:1000:1000:,,,:/home/pi:/bin/bash\nanna:x:1001:1001::/home/anna:/bin/bash\n"


def written(*parts: bytes, kind: str = "") -> str:
    """A line of authorized_keys from its parts."""
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"{kind or parts[0].decode()} {base64.b64encode(blob).decode()} me@here"


def generated() -> list[str]:
    """A fresh key of each type, written by another library."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    keys: list[Any] = [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)]
    keys += [ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())]
    return [key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() for key in keys]


def hardware() -> list[str]:
    """Keys of security tokens, as OpenSSH's PROTOCOL.u2f has them."""
    return [
        written(b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:"),
        written(b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", b"\x04" + bytes(64), b"ssh:"),
    ]


def test_real_keys_are_taken() -> None:
    """Of every type that OpenSSH makes, with and without a comment."""
    for key in (KEY, *generated(), *hardware()):
        assert ssh_key_problem(key) == ""
        assert ssh_key_problem(" ".join(key.split(" ")[:2])) == ""


def test_a_key_that_is_cut_or_mixed_is_refused() -> None:
    """Wherever it is cut, whatever is glued to it, and under another type's word."""
    keys = [*generated(), *hardware()]
    for key in keys:
        kind, data = key.split(" ")[:2]
        blob = base64.b64decode(data)
        for size in range(len(blob)):
            assert ssh_key_problem(f"{kind} {base64.b64encode(blob[:size]).decode()}"), size
        assert ssh_key_problem(f"{kind} {data[:-1]}")
        assert ssh_key_problem(f"{kind} {base64.b64encode(blob + blob).decode()}")
        for other in keys:
            word = other.split(" ")[0]
            assert bool(ssh_key_problem(f"{word} {data}")) == (word != kind)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "no type of key"),
        ("ssh-ed25519", "no type of key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "no type of key"),
        ("ssh-dss AAAA", "no type of key"),
        ("ssh-ed25519 !!!!", "no base64"),
        (f"{KEY}\x1b[2J", "cannot be printed"),
        (written(b"ssh-ed25519", bytes(31)), "no key of type ssh-ed25519"),
        (written(b"ssh-rsa", b"\x01\x00\x01", bytes(200)), "no key of type ssh-rsa"),
        (written(b"ecdsa-sha2-nistp256", b"nistp384", b"\x04" + bytes(64)), "no key of type"),
        (written(b"\xff" * 80, bytes(32), kind="ssh-ed25519"), "a key of type unknown behind the word"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(line: str, said: str) -> None:
    """In a sentence that names the line among several, and shows none of it."""
    assert said in ssh_key_problem(line)
    with pytest.raises(UsageError, match="in line 2; give the .pub file"):
        Wishes(ssh_keys=(KEY, line))


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("sudo", [True, False])
def test_what_an_account_may_do_is_the_same_everywhere(name: str, sudo: bool) -> None:
    """It has no password that sudo could ask for: it may do everything by one rule, or nothing by none."""
    card = replace(CARDS[name], root={**CARDS[name].root, FIRST_SUDO: b"pi ALL=(ALL) NOPASSWD: ALL\n"})
    found = flashed(card, replace(WISHES, sudo=sudo))
    rules = [path for path in found.root if path.startswith("/etc/sudoers.d/") and path != FIRST_SUDO]
    assert rules == ([SUDOERS] if sudo else [])
    if sudo:
        assert found.root[SUDOERS] == b"edgequilt ALL=(ALL) NOPASSWD: ALL\n"
        assert found.modes[SUDOERS] == 0o440  # sudo reads no others
    elif name.startswith("raspberry"):
        assert FIRST_SUDO not in found.root  # the image's first account becomes the user's
    members = [line for line in found.root["/etc/group"].decode().splitlines() if "edgequilt" in line.split(":")[-1]]  # type: ignore[union-attr]
    assert any(line.startswith("sudo:") for line in members) == (sudo and not name.startswith("raspberry"))
    told = str([content for path, content in found.boot.items() if path in ("/user-data", "/rpi-preseed.toml")])
    assert "sudo," not in told or sudo
    assert '["sudo"' not in told or sudo


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("user", ["video", "daemon", "root", "adm"])
def test_a_name_that_the_system_has_is_refused(name: str, user: str) -> None:
    """A group, or an account of the system's own: nothing is made twice."""
    with pytest.raises(BadData, match=f"found {user}"):
        flashed(name, replace(WISHES, user=user))
    assert flashed(name, replace(WISHES, user=user, ssh_keys=())).system  # nobody is made, so nobody is in the way


@pytest.mark.parametrize("name", CARDS)
def test_a_person_who_is_there_stays_and_gets_the_keys(name: str) -> None:
    """passwd and group stay as they are; Raspberry Pi OS renames its first account, so another one is refused there."""
    card = replace(CARDS[name], root={**CARDS[name].root, "/etc/passwd": PEOPLE, "/etc/group": GROUP + b"pi:x:1000:\n"})
    found = flashed(card, replace(WISHES, user="pi"))
    assert found.root["/etc/passwd"] == PEOPLE
    assert SUDOERS in found.root or not name.startswith("raspberry")
    renames = name.endswith(("firstrun", "rpi-preseed"))
    if renames:
        with pytest.raises(BadData, match="found anna, which the image has"):
            flashed(card, replace(WISHES, user="anna"))
    else:
        assert flashed(card, replace(WISHES, user="anna")).root["/etc/passwd"] == PEOPLE


@pytest.mark.parametrize("name", CARDS)
def test_a_hung_board_starts_again_as_it_is_wished(name: str) -> None:
    """After so many seconds, or never; what no watchdog counts to is refused."""
    for wished, line in ((14, "14"), (60, "60"), (0, "off")):
        assert flashed(name, replace(WISHES, watchdog_s=wished)).root[WATCHDOG] == (
            f"[Manager]\nRuntimeWatchdogSec={line}\n".encode()
        )
    for wrong in (-1, 4, 3601):
        with pytest.raises(UsageError, match="expected --watchdog-s of 5 to 3600 seconds, or 0 for none"):
            Wishes(watchdog_s=wrong)


def test_every_line_of_the_tables_stays_one_of_its_kind() -> None:
    """After a user was made: no name and no number twice, as many fields as before."""
    found = flashed("debian")
    for table, fields in (("passwd", 7), ("group", 4), ("shadow", 9), ("gshadow", 4)):
        lines = [line.split(":") for line in found.root[f"/etc/{table}"].decode().splitlines()]  # type: ignore[union-attr]
        assert {len(line) for line in lines} == {fields}
        assert len({line[0] for line in lines}) == len(lines)
        if table in ("passwd", "group"):
            assert len({line[2] for line in lines}) == len(lines)
