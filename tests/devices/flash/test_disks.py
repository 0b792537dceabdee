"""Disks as several versions of lsblk tell of them, and which of them may be written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.errors import StorageError, UsageError
from devices.flash.cli import flash
from devices.flash.disks import find_disk, parse_disks, problems
from wire.token import Token

GIB = 1 << 30
SYSTEM = {
    "name": "nvme0n1", "path": "/dev/nvme0n1", "type": "disk", "size": 500 * GIB, "ro": False, "rm": False,
    "hotplug": False, "tran": "nvme", "vendor": None, "model": "Fast", "serial": "S1", "mountpoints": [None],
    "children": [
        {"name": "nvme0n1p1", "type": "part", "mountpoint": "/boot/efi"},
        {"name": "nvme0n1p2", "type": "part", "children": [
            {"name": "vg-root", "type": "lvm", "mountpoints": ["/", "/snap"]},
            {"name": "vg-swap", "type": "lvm", "mountpoint": "[SWAP]"},
        ]},
    ],
}  # fmt: skip
CARD = {
    "name": "sdb", "path": "/dev/sdb", "type": "disk", "size": 32 * GIB, "ro": False, "rm": True, "hotplug": True,
    "tran": "usb", "vendor": "Generic ", "model": "MassStorageClass", "serial": "0123", "mountpoints": [None],
    "children": [{"name": "sdb1", "path": "/dev/sdb1", "type": "part", "label": "bootfs", "mountpoints": [None]}],
}  # fmt: skip


def told(*rows: dict[str, Any]) -> bytes:
    """What lsblk prints."""
    return json.dumps({"blockdevices": list(rows)}).encode()


def test_fields_of_a_card() -> None:
    """As people recognise it: name, port, serial, labels of its partitions."""
    (card,) = parse_disks(told(CARD))
    assert (card.path, card.name, card.port, card.serial) == ("/dev/sdb", "Generic MassStorageClass", "usb", "0123")
    assert (card.size_bytes, card.removable, card.read_only, card.labels) == (32 * GIB, True, False, ("bootfs",))
    assert card.card
    assert problems(card, GIB, 256 * GIB) == []


def test_versions_of_lsblk_say_the_same() -> None:
    """Flags as booleans or as texts, sizes as numbers or as texts, one mount point or a list of them."""
    old = {**CARD, "size": str(32 * GIB), "ro": "0", "rm": "1", "hotplug": "1", "mountpoint": None}
    del old["mountpoints"], old["path"]
    assert parse_disks(told(old)) == parse_disks(told(CARD))


CHIP = {"name": "mmcblk0", "type": "disk", "size": 16 * GIB, "rm": False, "tran": None}


@pytest.mark.parametrize("port", [None, "mmc"])
@pytest.mark.parametrize(
    ("kind", "named", "sentence"),
    [
        ("SD", "sd", ""),
        ("MMC", "emmc", "it is built in, an eMMC chip of this machine and no card; --fixed"),
        ("", "mmc", "it is built in, as far as the kernel tells"),
    ],
)
def test_a_chip_is_no_card(port: str | None, kind: str, named: str, sentence: str, tmp_path: Path) -> None:
    """A reader that is built in has cards, an eMMC is soldered: lsblk shows them alike, the kernel knows."""
    if kind:
        (tmp_path / "mmcblk0" / "device").mkdir(parents=True)
        (tmp_path / "mmcblk0" / "device" / "type").write_text(f"{kind}\n")
    (disk,) = parse_disks(told({**CHIP, "tran": port}), tmp_path)
    assert (disk.path, disk.port, disk.card, disk.name) == ("/dev/mmcblk0", named, not sentence, "")
    assert [found[: len(sentence)] for found in problems(disk, GIB, 256 * GIB)] == ([sentence] if sentence else [])
    assert problems(disk, GIB, 256 * GIB, fixed=True) == []


def test_the_chip_that_this_system_runs_from(tmp_path: Path) -> None:
    """A card, too: its mounts say it, and --fixed takes nothing of that away."""
    (tmp_path / "mmcblk0" / "device").mkdir(parents=True)
    (tmp_path / "mmcblk0" / "device" / "type").write_text("SD\n")
    root = {"name": "mmcblk0p2", "type": "part", "mountpoints": ["/"]}
    (disk,) = parse_disks(told({**CHIP, "children": [root]}), tmp_path)
    assert problems(disk, GIB, 256 * GIB, fixed=True) == ["it holds this system (/)"]


@pytest.mark.parametrize("name", ["mmcblk0boot0", "mmcblk1rpmb", "mmcblk0gp1"])
def test_boot_areas_of_chips_are_no_disks(name: str, tmp_path: Path) -> None:
    """lsblk lists them as disks of their own; a board whose boot area is gone starts no more."""
    (disk,) = parse_disks(told({**CHIP, "name": name}), tmp_path)
    assert problems(disk, GIB, 256 * GIB, fixed=True) == ["it is a boot area of a chip, no disk"]


def test_the_kernel_counts_media(tmp_path: Path) -> None:
    """Its number is kept where it says one."""
    (tmp_path / "sdb").mkdir()
    assert parse_disks(told(CARD), tmp_path)[0].sequence is None
    (tmp_path / "sdb" / "diskseq").write_text("17\n")
    assert parse_disks(told(CARD), tmp_path)[0].sequence == 17


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"children": [{"name": "sdb1", "type": "part", "mountpoints": ["/media/me/x"]}]}, "mounted at /media/me/x"),
        ({"children": [{"name": "x", "type": "crypt"}]}, r"others hold parts of it: x \(crypt\)"),
        ({"ro": True}, "it is read-only"),
        ({"tran": "sata", "rm": False, "hotplug": False}, "it is built in"),
        ({"size": 1 << 40}, "more than --max-size"),
        ({"size": GIB // 2}, "the image needs 1024.0 MiB"),
        ({"type": "rom"}, "it is a rom"),
    ],
)
def test_what_is_refused(change: dict[str, Any], sentence: str) -> None:
    """Each with its reason."""
    (disk,) = parse_disks(told({**CARD, **change}))
    assert any(re.search(sentence, found) for found in problems(disk, GIB, 256 * GIB))


def test_the_disk_of_this_system_is_refused_for_all_reasons() -> None:
    """Also where the system lies in LVM; --fixed takes one reason away, not the others."""
    (disk,) = parse_disks(told(SYSTEM))
    found = "; ".join(problems(disk, GIB, 256 * GIB))
    for words in ("it holds this system (/boot/efi, /, [SWAP])", "vg-root (lvm)", "built in", "--max-size"):
        assert words in found
    assert "this system" in "; ".join(problems(disk, GIB, 1 << 50, fixed=True))


def test_a_partition_is_no_disk() -> None:
    """It says which disks there are."""
    with pytest.raises(UsageError, match=r"expected a whole disk, found /dev/sdb1: .* there is /dev/sdb"):
        find_disk("/dev/sdb1", parse_disks(told(CARD)))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"blockdevices": 5}', b'{"blockdevices": [{"size": "x"}]}'])
def test_what_lsblk_never_says(text: bytes) -> None:
    """One sentence."""
    with pytest.raises(StorageError, match="expected a list of disks from lsblk"):
        parse_disks(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Disks that this machine has, as its lsblk says."""

    def has(*rows: dict[str, Any]) -> None:
        (tmp_path / "lsblk.json").write_bytes(told(*rows))
        program = tmp_path / "bin" / "lsblk"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/lsblk.json\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")

    return has


def test_the_list_shows_cards_first(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """With why others may not be written; the same as JSON."""
    machine(SYSTEM, CARD)
    assert flash(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[0] == "/dev/sdb"
    assert "bootfs" in lines[2]
    assert "no: it holds this system" in lines[3]
    assert flash(["--list", "--json"]) == 0
    assert [(row["path"], row["writable"]) for row in json.loads(capsys.readouterr().out)] == [
        ("/dev/sdb", True),
        ("/dev/nvme0n1", False),
    ]


def test_nobody_changes_the_cards(machine: Callable[..., None], tmp_path: Path) -> None:
    """The second of two would go onto the first."""
    machine(CARD)
    (tmp_path / "image.img").write_bytes(bytes(4096))
    token = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32).text
    (tmp_path / "tokens").write_text(f"{token}\n{token}\n")
    words = ["--device", "raspberry-pi-5-4gb", "--image", str(tmp_path / "image.img"), "--to", "/dev/sdb"]
    with pytest.raises(UsageError, match="expected somebody to change the cards"):
        flash([*words, "--claim-file", str(tmp_path / "tokens"), "--count", "2", "--yes", "--serial", "0123"])


@pytest.mark.parametrize(
    ("target", "sentence"),
    [("/dev/nvme0n1", "it holds this system"), ("/dev/sdb1", "expected a whole disk"), ("/dev/sdz", "whole disk")],
)
def test_flashing_refuses_before_it_unpacks(
    target: str, sentence: str, machine: Callable[..., None], tmp_path: Path
) -> None:
    """The system's disk, a partition, and what is not there."""
    machine(SYSTEM, CARD)
    image = tmp_path / "image.img"
    image.write_bytes(bytes(4096))
    token = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32).text
    words = ["--device", "raspberry-pi-5-4gb", "--image", str(image), "--to", target, "--claim", token]
    with pytest.raises(UsageError, match=sentence):
        flash(words)
