"""The card that is written is the one that was asked for, on real disks of the kernel."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import StorageError, UsageError
from console.progress import progress
from devices.flash import writing
from devices.flash.disks import Disk, disks, find_disk
from devices.flash.flashing import Watch, write_card
from devices.flash.same import require_same
from tests.devices.flash.loops import change, loop

MIB = 1 << 20


def medium(path: Path, size: int = 8 * MIB) -> Path:
    """Something to put into a reader."""
    path.write_bytes(b"used" * (size // 4))
    return path


def written(image: Path, disk: Path, card: Disk) -> str:
    """By the whole path of a card."""
    with progress("writing", quiet=True) as bar:
        return write_card(image, disk, Watch(), bar, card=card)


def test_a_disk_is_written(tmp_path: Path) -> None:
    """As the kernel's own block device: open for us alone, the whole image on it, and nothing behind it."""
    image = tmp_path / "image"
    image.write_bytes(os.urandom(5 * MIB + 512))
    with loop(medium(tmp_path / "one")) as disk:
        written(image, disk, find_disk(str(disk), disks()))
        assert disk.read_bytes()[: 5 * MIB + 512] == image.read_bytes()
        with writing.opened(disk), pytest.raises(StorageError, match="busy; unmount"), writing.opened(disk):
            pass


@pytest.mark.parametrize("size", [8 * MIB, 4 * MIB], ids=["as large", "smaller"])
def test_another_card_was_put_in(size: int, tmp_path: Path) -> None:
    """Between asking and writing: nothing of it is touched."""
    image, other = tmp_path / "image", medium(tmp_path / "other", size)
    image.write_bytes(os.urandom(2 * MIB))
    with loop(medium(tmp_path / "one")) as disk:
        card = find_disk(str(disk), disks())
        if size == card.size_bytes and card.sequence is None:
            pytest.skip("this kernel does not count media")
        change(disk, other)
        with pytest.raises(UsageError, match="another card was put in .*nothing was written"):
            written(image, disk, card)
        assert disk.read_bytes() == b"used" * (size // 4)


@pytest.mark.parametrize("change", [{"serial": "9"}, {"name": "Other"}, {"size_bytes": 5}, {"path": "/dev/sdc"}])
def test_what_lsblk_says_then(change: dict[str, Any], tmp_path: Path) -> None:
    """Serial, name and size are asked for once more while the disk is open; a kernel that counts nothing is no harm."""
    meant = Disk("/dev/sdb", "disk", MIB, False, True, "usb", "Reader", "1", sequence=7)
    target = medium(tmp_path / "card", MIB)
    with target.open("rb") as file:
        require_same(file.fileno(), meant, lambda: [meant])
        if "size_bytes" in change:
            meant = replace(meant, size_bytes=5)
        with pytest.raises(UsageError, match="another card was put in"):
            require_same(file.fileno(), meant, lambda: [replace(meant, **change)])
