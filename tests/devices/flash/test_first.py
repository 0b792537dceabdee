"""What happens at a board's first start, run for real: the root grows, secrets leave FAT, whatever is cut off when."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.flash.ext4 import Ext4
from devices.flash.partitions import read_partitions
from devices.flash.systems.first import SCRIPT
from devices.flash.tools import tool
from tests.conftest import ROOT
from tests.devices.flash.images import make_image
from tests.devices.flash.seen import FAT, WISHES, After, flashed
from tests.programs import image_tools

MIB = 1 << 20
DONE = "var/lib/edgequilt-first.done"
OTHERS = (("sda", "gpt", False, "sfdisk"), ("mmcblk1", "gpt", True, "sfdisk"), ("sdb", "dos", False, "growpart"))
HELPERS = ("/usr/lib/raspberrypi-sys-mods/imager_custom", "/usr/lib/userconf-pi/userconf")


def scratch(found: After, folder: Path) -> Path:
    """A folder that stands for the board's root, with its FAT partition in it."""
    for path, content in found.boot.items():
        place = folder / f"boot/firmware{path}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "var/lib").mkdir(parents=True)
    return folder


def first(found: After, root: Path) -> int:
    """Run the unit's script as the next start does; its exit status."""
    script = found.root[SCRIPT]
    assert isinstance(script, bytes)
    environment = {**os.environ, "EDGEQUILT_ROOT": str(root)}
    return subprocess.run(["sh"], input=script, env=environment, check=False).returncode


def secret_in(root: Path) -> list[str]:
    """Files of FAT that hold the network's key."""
    files = [path for path in (root / "boot/firmware").iterdir() if path.is_file()]
    key = WISHES.wifi_key.encode()
    return [path.name for path in files if key in path.read_bytes()]


def test_a_script_cut_off_anywhere_leaves_no_secret(tmp_path: Path) -> None:
    """firstrun.sh dies after each of its lines: it runs again while the kernel's line names it, or our unit ends it."""
    found = flashed(FAT["firstrun"])
    whole = found.boot["/firstrun.sh"]
    assert isinstance(whole, bytes)
    lines = whole.decode().splitlines()
    inside = [at for at, line in enumerate(lines) if line.startswith("  ")]
    for cut in (*inside, None):
        root = scratch(found, tmp_path / str(cut))
        script = root / "boot/firmware/firstrun.sh"
        cmdline = root / "boot/firmware/cmdline.txt"

        def start(number: int | None, root: Path = root, script: Path = script) -> None:
            text = "\n".join(line + ("; kill -9 $$" if at == number else "") for at, line in enumerate(lines)) + "\n"
            text = text.replace("/boot/firmware", f"{root}/boot/firmware")
            for helper in HELPERS:
                text = text.replace(helper, "true")
            script.write_text(text)
            subprocess.run(["bash", str(script)], check=False)

        start(cut)
        if "firstrun.sh" in cmdline.read_text():  # the next start is again one that runs it
            assert first(found, root) == 1, "it takes away what is still to run"
            assert script.exists()
            assert not (root / DONE).exists()
            start(None)
        assert first(found, root) == 0
        assert secret_in(root) == []
        assert not script.exists()
        assert (root / DONE).exists()
        assert "rootwait" in cmdline.read_text()


@pytest.mark.parametrize("kind", ["cloud-init", "preseed"])
def test_what_was_read_is_overwritten_and_removed(kind: str, tmp_path: Path) -> None:
    """Twice does no harm; and a file whose removal fails is tried again at the next start."""
    found = flashed(FAT[kind])
    root = scratch(found, tmp_path)
    assert len(secret_in(root)) == 1
    for _ in range(2):
        assert first(found, root) == 0
        assert secret_in(root) == []
    assert {path.name for path in (root / "boot/firmware").iterdir()} < {path.strip("/") for path in found.boot}


@pytest.fixture
def card(tmp_path: Path) -> Callable[..., tuple[Path, int]]:
    """An image on a card of twice its size, under the name that the kernel would give the disk."""
    image_tools()

    def make(name: str, label: str, root_first: bool) -> tuple[Path, int]:
        files: dict[str, bytes | str] = {"/etc/os-release": b"ID=debian\n", "/large": os.urandom(3 * MIB)}
        made = make_image(tmp_path / "card.img", files, {"a": b"b"}, label=label, root_first=root_first)
        disk = made.rename(tmp_path / name)
        os.truncate(disk, disk.stat().st_size + 64 * MIB)
        return disk, 1 if root_first else 2

    return make


@pytest.mark.parametrize(
    ("name", "label", "root_first", "tools"),
    [
        ("mmcblk0", "dos", False, "sfdisk"),
        ("nvme0n1", "gpt", True, "growpart"),
        *(pytest.param(*case, marks=pytest.mark.heavy) for case in OTHERS),
    ],
)
def test_the_root_grows_to_the_cards_end(
    name: str, label: str, root_first: bool, tools: str, card: Callable[..., tuple[Path, int]], tmp_path: Path
) -> None:
    """Partition and file system end where the card does, nothing else moves, files stay, twice changes nothing more."""
    disk, number = card(name, label, root_first)
    before = {part.number: part for part in read_partitions(disk).parts}
    content = Ext4(disk, before[number]).read("/large")
    part = f"{disk}p{number}" if name[-1].isdigit() else f"{disk}{number}"
    found, root = flashed("jetpack"), tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    path = _tools(tmp_path / "bin", disk, part, before[number].start_bytes, growpart=tools == "growpart")
    script = found.root[SCRIPT]
    assert isinstance(script, bytes)
    for turn in range(2):
        environment = {"PATH": path, "EDGEQUILT_ROOT": str(root)}
        done = subprocess.run(["/bin/sh"], input=script, env=environment, cwd=ROOT, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert (root / DONE).exists()
        (root / DONE).unlink()
        after = {one.number: one for one in read_partitions(disk).parts}
        grown = after[number]
        assert grown.start_bytes == before[number].start_bytes
        assert grown.start_bytes + grown.size_bytes >= disk.stat().st_size - 2 * MIB, turn
        assert {n: p for n, p in after.items() if n != number} == {n: p for n, p in before.items() if n != number}
        assert Ext4(disk, grown).read("/large") == content
        assert _blocks(disk, grown.start_bytes) >= grown.size_bytes - MIB
        check = [tool("e2fsck"), "-fn", f"{disk}?offset={grown.start_bytes}"]
        assert subprocess.run(check, check=False, capture_output=True).returncode == 0


def test_a_root_that_is_no_partition_stays(tmp_path: Path) -> None:
    """Of an overlay or a whole disk nothing is known, and nothing is touched; the card is done with it."""
    found = flashed("debian")
    for source in ("overlay", "/dev/sda", "/dev/mapper/root"):
        root = tmp_path / source.replace("/", "_")
        (root / "var/lib").mkdir(parents=True)
        path = _tools(root / "bin", Path("/nowhere"), "", 0, source=source)
        script = found.root[SCRIPT]
        assert isinstance(script, bytes)
        environment = {"PATH": path, "EDGEQUILT_ROOT": str(root)}
        subprocess.run(["/bin/sh"], input=script, env=environment, check=True)
        assert not (root / "bin/called").exists()
        assert (root / DONE).exists()


def _tools(folder: Path, disk: Path, part: str, start: int, *, growpart: bool = False, source: str = "") -> str:
    """A PATH with the real programs, but that a file has no devices for its partitions.

    findmnt names the one that would be there, and resize2fs gets its bytes as a file.
    growpart is for what the real one does (it calls sfdisk, too), and says 1 when there is nothing to grow.
    """
    folder.mkdir(parents=True)
    for name in ("sed", "sync", "wc", "dd", "rm", "cat"):
        (folder / name).symlink_to(tool(name))
    if not growpart:
        (folder / "sfdisk").symlink_to(tool("sfdisk"))
    programs = {"findmnt": f"echo {source or part}"}
    taken = f"{sys.executable} -m tests.devices.flash.resized {disk} {start} {tool('resize2fs')}"
    programs["resize2fs"] = f'echo "$1" >> {folder}/called\n[ "$1" = "{part}" ] && exec {taken}'
    if growpart:
        programs["growpart"] = (
            f'[ "$1" = "{disk}" ] || exit 3\necho ",+" | {tool("sfdisk")} -q --no-reread -N "$2" "$1" || exit 2\n'
            f"[ ! -e {folder}/grown ] || exit 1\n: > {folder}/grown"
        )
    for name, lines in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def _blocks(disk: Path, start: int) -> int:
    """Bytes of the file system, as its own superblock says (its second KiB)."""
    with disk.open("rb") as file:
        file.seek(start + 1024)
        block = file.read(1024)
    return int.from_bytes(block[4:8], "little") << (10 + int.from_bytes(block[24:28], "little"))
