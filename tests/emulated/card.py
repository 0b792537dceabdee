"""From a plain Debian's image to a card with an agent on it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from devices.flash.ext4 import Ext4
from devices.flash.partitions import read_partitions
from devices.payload.agent import agent_payload
from devices.payload.placed import Payload, Placed
from devices.payload.release import release
from devices.payload.settings import Settings
from devices.payload.target import Target
from devices.profile import load
from tests.emulated.cache import CACHE
from tests.emulated.debian import debian
from tests.emulated.fleet import BOARD, Fleet
from tests.emulated.image import plain

TARGET = Target("3.11", "2.36")


@dataclass(frozen=True)
class Card:
    """An image that a machine writes to, and the key with which one logs in there."""

    image: Path
    key: Path


def new_key(folder: Path) -> Path:
    """A key for SSH."""
    key = folder / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    return key


def flashed(folder: Path, fleet: Fleet, name: str) -> Card:
    """A card for a board that was enrolled just now."""
    image, key = folder / f"{name}.img", new_key(folder)
    subprocess.run(["cp", "--sparse=always", plain(debian()), image], check=True, timeout=120)
    profile = load(BOARD)
    made = release(TARGET, profile, cache=CACHE / "wheels")
    settings = Settings(fleet.enroll(name), fleet.address, BOARD)
    payload = agent_payload(made, settings, profile, data=fleet.data)
    known = Placed("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_bytes(), 0o600)
    payload += Payload((known, Placed("/usr/lib/clock-epoch", b"")), folders=(("/root/.ssh", 0o700),))
    Ext4(image, read_partitions(image).parts[1]).inject(payload)
    return Card(image, key)
