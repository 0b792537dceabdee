"""From a plain Debian's image to a card with an agent on it, by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devices.flash.ext4 import Ext4
from devices.flash.partitions import read_partitions
from devices.payload.agent import carried
from devices.payload.placed import Payload, Placed
from devices.payload.places import DATA
from tests.conftest import ROOT
from tests.emulated.cache import CACHE
from tests.emulated.debian import debian
from tests.emulated.fleet import BOARD, Fleet
from tests.emulated.image import plain


@dataclass(frozen=True)
class Card:
    """An image that a machine writes to, and the key with which root logs in there."""

    image: Path
    key: Path


def flashed(folder: Path, fleet: Fleet, name: str) -> Card:
    """A card for a board that was enrolled just now, with rows to learn from."""
    image, key, token = folder / f"{name}.img", new_key(folder), folder / f"{name}.token"
    token.write_text(fleet.enroll(name))
    told = ["flash", "--device", BOARD, "--image", plain(debian()), "--to", image, "--hub", fleet.address]
    told += ["--claim-file", token, "--user", "keeper", "--ssh-key", key.with_suffix(".pub"), "--hostname", name]
    command = [sys.executable, "-m", "edgequilt", *map(str, told), "--report", str(folder / "report.json"), "--json"]
    # wheels of the versions that all tests run with, kept where `make clean` finds them
    environment = {**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "XDG_CACHE_HOME": str(CACHE / "xdg")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    inject(image, carried(fleet.data, DATA))
    inject(image, _root_logs_in(key))  # flashing lets persons in, and no account of the system's own
    return Card(image, key)


def bare(folder: Path) -> Card:
    """A Debian that knows nothing of agents, on which root can log in."""
    image, key = folder / "bare.img", new_key(folder)
    subprocess.run(["cp", "--sparse=always", plain(debian()), image], check=True, timeout=400)
    inject(image, _root_logs_in(key))
    return Card(image, key)


def _root_logs_in(key: Path) -> Payload:
    known = Placed("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_bytes(), 0o600)
    return Payload((known,), folders=(("/root/.ssh", 0o700),))


def new_key(folder: Path) -> Path:
    """A key for SSH."""
    key = folder / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    return key


def inject(image: Path, payload: Payload) -> None:
    """Into the root of an image."""
    Ext4(image, read_partitions(image).parts[1]).inject(payload)
