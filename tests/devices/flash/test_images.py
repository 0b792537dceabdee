"""Images are read and changed without being mounted; dissect's readers, which share nothing with our tools, agree."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, IntegrityError, StorageError
from devices.flash.ext4 import Ext4
from devices.flash.fat import Fat
from devices.flash.needs import Needs, needs_of
from devices.flash.partitions import read_partitions
from devices.flash.room import foreseen, grown
from devices.flash.tools import run, tool
from devices.payload.placed import Linked, Payload, Placed
from tests.devices.flash.images import make_image

ROOT: dict[str, bytes | str] = {
    "/etc/os-release": b"ID=debian\n",
    "/usr/bin/python3.11": b"elf",
    "/usr/bin/python3": "python3.11",
}
BOOT = {"config.txt": b"arm_64bit=1\n", "cmdline.txt": b"root=/dev/mmcblk0p2\n"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A FAT partition and an ext4 root behind an MBR, as on a Raspberry Pi's card."""
    return make_image(tmp_path / "card.img", ROOT, BOOT)


@contextmanager
def independent(image: Path, number: int) -> Iterator[Any]:
    """The partition as dissect reads it."""
    extfs, fat = pytest.importorskip("dissect.extfs"), pytest.importorskip("dissect.fat")
    part = next(p for p in read_partitions(image).parts if p.number == number)
    relative = pytest.importorskip("dissect.util.stream")
    with image.open("rb") as file:
        stream = relative.RangeStream(file, part.start_bytes, part.size_bytes)
        yield extfs.ExtFS(stream) if part.holds == "ext4" else fat.FATFS(stream)


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_partitions_are_those_that_sfdisk_made(tmp_path: Path, label: str) -> None:
    """Of both kinds of tables: numbers, bytes, file systems; JetPack's root is number 1 and lies last."""
    image = make_image(tmp_path / "card.img", ROOT, BOOT, label=label, root_first=label == "gpt")
    found = read_partitions(image)
    assert found.label == label
    by_kind = {part.holds: part for part in found.parts}
    assert (by_kind["fat"].start_bytes, by_kind["fat"].size_bytes) == (1 << 20, 40 << 20)
    assert (by_kind["ext4"].start_bytes, by_kind["ext4"].size_bytes) == (41 << 20, 48 << 20)
    assert found.last() == by_kind["ext4"]
    if label == "gpt":
        assert (by_kind["ext4"].number, by_kind["ext4"].name) == (1, "APP")


def test_what_is_no_image_of_a_card_is_refused(tmp_path: Path, image: Path) -> None:
    """No table, an empty one, one that leads out of the file: a sentence each."""
    nothing = tmp_path / "nothing.img"
    nothing.write_bytes(bytes(4096))
    with pytest.raises(BadData, match="expected a partition table in nothing.img, found none"):
        read_partitions(nothing)
    empty = bytearray(4096)
    empty[510:512] = b"\x55\xaa"
    nothing.write_bytes(empty)
    with pytest.raises(BadData, match="found an empty table"):
        read_partitions(nothing)
    os.truncate(image, 45 << 20)
    with pytest.raises(BadData, match="found 2 beyond its end"):
        read_partitions(image)


@pytest.mark.parametrize(("at", "value"), [(72, 1 << 62), (72, 2**64 - 1), (80, 2**32 - 1), (84, 2**32 - 1)])
def test_a_damaged_table_is_a_sentence(tmp_path: Path, at: int, value: int) -> None:
    """A GPT whose header names entries where no file can have them, too many or too large ones."""
    image = bytearray(8192)
    image[446:462] = struct.pack("<B3xB3xII", 0, 0xEE, 1, 15)
    image[510:512] = b"\x55\xaa"
    struct.pack_into("<8s64xQII", image, 512, b"EFI PART", 2, 4, 128)
    struct.pack_into("<Q" if at == 72 else "<I", image, 512 + at, value)
    damaged = tmp_path / "damaged.img"
    damaged.write_bytes(image)
    with pytest.raises(BadData, match="found (an empty table|a damaged one)"):
        read_partitions(damaged)


def test_a_partition_where_no_file_reaches_is_refused(tmp_path: Path) -> None:
    """Its first sector lies beyond what an offset can say."""
    image = bytearray(8192)
    image[446:462] = struct.pack("<B3xB3xII", 0, 0xEE, 1, 15)
    image[510:512] = b"\x55\xaa"
    struct.pack_into("<8s64xQII", image, 512, b"EFI PART", 2, 4, 128)
    struct.pack_into("<16s16sQQQ72s", image, 1024, b"t" * 16, b"i" * 16, 1 << 62, (1 << 62) + 8, 0, bytes(72))
    damaged = tmp_path / "damaged.img"
    damaged.write_bytes(image)
    with pytest.raises(BadData, match="found 1 beyond its end"):
        read_partitions(damaged)


def test_files_are_read_through_links(image: Path) -> None:
    """Of both file systems; what is not there is None, and a folder that is not there holds nothing."""
    fat, root = (read_partitions(image).parts[i] for i in range(2))
    assert Fat(image, fat).read("/config.txt") == BOOT["config.txt"]
    assert Fat(image, fat).read("/user-data") is None
    assert set(Fat(image, fat).names("/")) == set(BOOT)
    tree = Ext4(image, root)
    assert tree.read("/usr/bin/python3") == b"elf"
    assert tree.read("/usr/bin/python4") is None
    assert set(tree.names("/usr/bin")) == {"python3", "python3.11"}
    assert tree.names("/nowhere") == ()


def test_what_is_injected_is_there(image: Path, tmp_path: Path) -> None:
    """Files with their modes, owned by root; links; new folders; what was there is replaced or gone; nothing else."""
    large = tmp_path / 'a "large" file'
    large.write_bytes(os.urandom(3 << 20))
    payload = Payload(
        (
            Placed("/var/lib/edgequilt/agent.toml", b"[agent]\n", 0o600),
            Placed("/usr/lib/edgequilt/with space/x.bin", large, 0o755),
            Placed("/etc/os-release", b"ID=ours\n"),
        ),
        (Linked("/var/lib/edgequilt/current", "releases/1"), Linked("/usr/bin/python3", "python3.13")),
        (("/var/lib/edgequilt", 0o700),),
        ("/usr/bin/python3.11", "/not/there"),
    )
    part = read_partitions(image).parts[1]
    Ext4(image, part).inject(payload)
    with independent(image, 2) as fs:
        for placed in payload.files:
            node = fs.get(placed.path)
            wanted = placed.content.read_bytes() if isinstance(placed.content, Path) else placed.content
            assert node.open().read() == wanted
            assert (node.inode.i_uid, node.inode.i_gid) == (0, 0)
            assert stat.S_IMODE(node.inode.i_mode) == placed.mode
        for link in payload.links:
            assert fs.get(link.path).link == link.target
        assert stat.S_IMODE(fs.get("/var/lib/edgequilt").inode.i_mode) == 0o700
        assert set(fs.get("/usr/bin").listdir()) - {".", ".."} == {"python3"}


def test_injecting_twice_is_injecting_once(image: Path) -> None:
    """The second time replaces what the first one placed."""
    payload = Payload((Placed("/etc/hostname", b"one\n"),), (Linked("/etc/way", "there"),))
    tree = Ext4(image, read_partitions(image).parts[1])
    tree.inject(payload)
    tree.inject(Payload((Placed("/etc/hostname", b"two\n"),), payload.links))
    assert tree.read("/etc/hostname") == b"two\n"


def test_a_fat_partition_takes_files(image: Path) -> None:
    """Long names, folders, replacing and removing; the independent reader sees the same."""
    fat = Fat(image, read_partitions(image).parts[0])
    fat.inject(
        Payload(
            (Placed("/network-config", b"version: 2\n"), Placed("/a/deep/user-data", b"x" * 70000)),
            removed=("/config.txt",),
        )
    )
    with independent(image, 1) as fs:
        assert fs.get("network-config").open().read() == b"version: 2\n"
        assert fs.get("a/deep/user-data").open().read() == b"x" * 70000
        assert "config.txt" not in [entry.name for entry in fs.get("/").iterdir()]
    assert fat.read("/config.txt") is None


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_the_last_partition_grows(tmp_path: Path, label: str) -> None:
    """A payload that does not fit makes partition, file system and image larger, and nothing else of them changes."""
    image = make_image(tmp_path / "card.img", ROOT, BOOT, label=label, root_first=label == "gpt")
    root = next(p for p in read_partitions(image).parts if p.holds == "ext4")
    source = tmp_path / "large"
    source.write_bytes(os.urandom(80 << 20))
    payload = Payload((Placed("/large", source),))
    with pytest.raises(StorageError, match="free in partition"):
        Ext4(image, root).inject(payload)
    larger = grown(image, root, needs_of(payload))
    assert (larger.number, larger.start_bytes, larger.name) == (root.number, root.start_bytes, root.name)
    assert larger.size_bytes > root.size_bytes
    run("sfdisk", ["--verify", image])
    Ext4(image, larger).inject(payload)
    with independent(image, root.number) as fs:
        assert fs.get("/large").open().read() == source.read_bytes()
        assert fs.get("/etc/os-release").open().read() == ROOT["/etc/os-release"]
    assert grown(image, larger, Needs(1, 1)) == larger


def test_a_root_without_inodes_grows(tmp_path: Path) -> None:
    """Room for bytes is none for files: thousands of small ones need inodes, and the root grows for them alone."""
    image = make_image(tmp_path / "card.img", ROOT, BOOT)
    root = read_partitions(image).parts[1]
    files = tuple(Placed(f"/many/{number % 7}/{number}", b"x") for number in range(900))
    payload = Payload(files, (Linked("/way", "there"),))
    tree = Ext4(image, root)
    spare = tree.free().inodes - 800
    full = Payload(tuple(Placed(f"/full/{number}", b"") for number in range(spare - 300)))
    tree.inject(full)
    free, needs = tree.free(), needs_of(payload)
    assert needs.bytes < free.bytes
    assert free.inodes < needs.inodes == 900 + 1 + 8 + 256
    with pytest.raises(StorageError, match=f"{needs.inodes} inodes free in partition 2, found .* and {free.inodes}"):
        tree.inject(payload)
    before = image.stat().st_size
    growth = foreseen(image, root, needs)
    assert image.stat().st_size == before
    larger = grown(image, root, needs)
    assert (larger.size_bytes - root.size_bytes, image.stat().st_size) == (growth.more_bytes, growth.size_bytes)
    Ext4(image, larger).inject(payload)
    with independent(image, 2) as fs:
        assert len(list(fs.get("/many/3").listdir())) == 2 + len(files) // 7 + 1


def test_a_partition_in_the_middle_cannot_grow(tmp_path: Path) -> None:
    """It is said, and the image is left as it was."""
    image = make_image(tmp_path / "card.img", ROOT)
    before = image.stat().st_size
    os.truncate(image, before + (64 << 20))
    run("sfdisk", ["-q", "--no-reread", "--append", image], given=f"{before // 512},65536,83\n")
    content = image.read_bytes()
    with pytest.raises(StorageError, match="it is not the last one"):
        grown(image, read_partitions(image).parts[0], Needs(100 << 20))
    assert image.read_bytes() == content


def test_a_journal_that_was_not_replayed_is_refused(image: Path) -> None:
    """debugfs would damage such a file system."""
    part = read_partitions(image).parts[1]
    run("debugfs", ["-w", "-R", "feature needs_recovery", f"{image}?offset={part.start_bytes}"])
    with pytest.raises(BadData, match="journal was not replayed"):
        Ext4(image, part).inject(Payload((Placed("/x", b"x"),)))


def test_a_damaged_file_system_is_refused(image: Path) -> None:
    """e2fsck looks before anything is written."""
    part = read_partitions(image).parts[1]
    with image.open("r+b") as file:
        file.seek(part.start_bytes + 8192)
        file.write(os.urandom(4096))
    with pytest.raises((IntegrityError, StorageError), match="e2fsck found|expected"):
        Ext4(image, part).inject(Payload((Placed("/x", b"x"),)))


def test_a_path_of_two_lines_is_refused(image: Path) -> None:
    """It would be another command of the script."""
    part = read_partitions(image).parts[1]
    with pytest.raises(BadData, match="a path of one line"):
        Ext4(image, part).inject(Payload((Placed("/a\nrm /etc/os-release", b""),)))
    assert Ext4(image, part).read("/etc/os-release") == ROOT["/etc/os-release"]


@pytest.mark.parametrize(
    ("spoilt", "path"),
    [
        ("/own.secret. mode/d", "/var/lib/own/secret"),
        ("/own.secret. uid/s/0$/1000/", "/var/lib/own/secret"),
        ("/own. mode/d", "/var/lib/own"),
    ],
)
def test_modes_and_owners_are_read_back(
    spoilt: str, path: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A debugfs that leaves one of them out, and says nothing, as it does of all that fails, is found out."""
    program = tmp_path / "bin" / "debugfs"
    program.parent.mkdir()
    real, script = tool("debugfs"), tmp_path / "script"
    writes = f'sed \'{spoilt}\' "$3" > {script}\n  exec {real} -w -f {script} "$4"'
    program.write_text(f'#!/bin/sh\nif [ "$1" = -w ]; then\n  {writes}\nfi\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    payload = Payload((Placed("/var/lib/own/secret", b"x", 0o640),), folders=(("/var/lib/own", 0o700),))
    with pytest.raises(IntegrityError, match=f"expected {path} in the image as written, found something else \\(1 in"):
        Ext4(image, read_partitions(image).parts[1]).inject(payload)
