"""A card that is a file: lsblk tells of it and the command takes it for a disk; all else is real.

`python -m tests.devices.flash.cards STEP SIGNAL CARD WORDS...` is `edgequilt flash WORDS...` on a machine with that
card, which is sent a signal as it begins a step; `-` for both: nothing stops it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgequilt
from devices.flash import cli, flashing, room, space, writing
from devices.flash.ext4 import Ext4
from devices.flash.fat import Fat
from devices.flash.limit import Limit
from devices.flash.report import Report

SERIAL = "0123-4567"
# in the order in which they come; of a function that is called often, only the call with this number counts
STEPS: dict[str, tuple[Any, str, int]] = {
    "room is looked at": (space, "before_unpacking", 1),
    "half is unpacked": (Limit, "require", 20),
    "the image is opened": (flashing, "open_image", 1),
    "it is planned": (flashing, "plan", 1),
    "the root grows": (room, "_resize", 1),
    "it is checked": (Ext4, "check", 1),
    "debugfs has written": (Ext4, "_compare", 1),
    "it is checked again": (Ext4, "check", 2),
    "FAT is written": (Fat, "inject", 1),
    "the card is opened": (writing, "opened", 1),
    "the first zeros are written": (writing, "write", 1),
    "the rest follows": (writing, "_ahead", 1),
    "half is written": (writing, "_ahead", 12),
    "it is read back": (writing, "verify", 1),
    "the first block is written": (writing, "finish", 1),
    "the first block is read back": (writing, "verify_first", 1),
    "it is in its place": (flashing, "sync_folder", 1),
    "it is told": (cli, "reported", 1),
    "the report is written": (Report, "write", 1),
}
FILE_ONLY = ("it is in its place",)
WHOLE = ("the first block is read back", "it is in its place", "it is told", "the report is written")


def put_in(card: Path, size: int = 256 << 20) -> None:
    """A used card: what looks like a partition table is on it."""
    with card.open("wb") as file:
        file.write(b"used" * 1024)
        file.truncate(size)


def lsblk(folder: Path, card: Path) -> Path:
    """A folder for PATH with a program that knows this card."""
    row = {
        "name": card.name, "path": str(card), "type": "disk", "size": card.stat().st_size, "ro": False, "rm": True,
        "tran": "usb", "vendor": "Generic", "model": "Reader", "serial": SERIAL, "mountpoints": [None],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "lsblk.json").write_text(json.dumps({"blockdevices": [row]}))
    (folder / "lsblk").write_text(f"#!/bin/sh\ncat {folder}/lsblk.json\n")
    (folder / "lsblk").chmod(0o755)
    return folder


def with_card(patch: pytest.MonkeyPatch, card: Path) -> None:
    """The file is a disk of this machine from now on."""
    patch.setenv("PATH", f"{lsblk(card.parent / 'bin', card)}:{os.environ['PATH']}")
    patch.setattr(writing, "is_device", lambda path: path == card)


def stopping(patch: pytest.MonkeyPatch, step: str, act: Callable[[], object]) -> list[str]:
    """Do something as a step begins; what is returned holds its name once that has happened."""
    owner, name, number = STEPS[step]
    real, calls, happened = getattr(owner, name), [0], list[str]()

    def stopped(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            happened.append(step)
            act()
        return real(*arguments, **more)

    patch.setattr(owner, name, stopped)
    return happened


def main() -> int:
    """See above."""
    step, number, card, *words = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        if card != "-":
            with_card(patch, Path(card))
        if step != "-":
            stopping(patch, step, lambda: os.kill(os.getpid(), getattr(signal, number)))
        return edgequilt.main(["flash", *words])


if __name__ == "__main__":
    sys.exit(main())
