"""Small images of cards, made with the tools that make real ones, without mounting: sfdisk, mkfs.vfat, mkfs.ext4."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from devices.flash.tools import tool
from tests.programs import program

SECTOR = 512
START = 2048  # sectors before the first partition
BOOT = 81920  # sectors: 40 MiB, which is enough for mtools to take it for FAT32


def make_image(
    path: Path,
    root: Mapping[str, bytes | str],
    boot: Mapping[str, bytes] | None = None,
    *,
    label: str = "dos",
    root_sectors: int = 98304,
    root_first: bool = False,
) -> Path:
    """An image with a FAT partition, where `boot` is given, and an ext4 root.

    Args:
        path: of the image.
        root: contents by absolute path; a text is what a symbolic link says.
        boot: contents by name.
        label: `dos` or `gpt`.
        root_sectors: of the root partition; 48 MiB.
        root_first: whether the root is partition 1 although it lies last, as on JetPack's cards.
    """
    for name, package in (("sfdisk", "fdisk"), ("mkfs.ext4", "e2fsprogs"), ("mkfs.vfat", "dosfstools")):
        program(name, package)
    program("mcopy", "mtools")
    root_start = START + (BOOT if boot is not None else 0)
    tail = 2048 if label == "gpt" else 0
    with path.open("wb") as file:
        file.truncate((root_start + root_sectors + tail) * SECTOR)
    lines = [f"label: {label}"]
    numbers = ("1", "2") if not root_first else ("2", "1")
    fat, linux = ("c", "83") if label == "dos" else ("U", "L")
    name = ', name="APP"' if root_first and label == "gpt" else ""
    if boot is not None:
        lines.append(f"{path}{numbers[0]} : start={START}, size={BOOT}, type={fat}")
    lines.append(
        f"{path}{numbers[1] if boot is not None else 1} : start={root_start}, size={root_sectors}, type={linux}{name}"
    )
    _run("sfdisk", "-q", str(path), given="\n".join(lines) + "\n")
    if boot is not None:
        _fat(path, boot)
    _ext4(path, root, root_start, root_sectors)
    return path


def _fat(path: Path, files: Mapping[str, bytes]) -> None:
    _run("mkfs.vfat", "-F", "32", "-s", "1", "-n", "bootfs", "--offset", str(START), str(path), str(BOOT // 2))
    for name, content in files.items():
        source = path.with_suffix(".file")
        source.write_bytes(content)
        _run("mcopy", "-i", f"{path}@@{START * SECTOR}", str(source), f"::/{name}")
        source.unlink()


def _ext4(path: Path, files: Mapping[str, bytes | str], start: int, sectors: int) -> None:
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        place = tree / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
    tree.mkdir(exist_ok=True)
    options = ("-q", "-F", "-L", "rootfs", "-O", "^64bit,^huge_file")
    where = ("-E", f"offset={start * SECTOR},root_owner=0:0", "-d", str(tree), str(path), f"{sectors // 2}k")
    _run("mkfs.ext4", *options, *where)
    subprocess.run(["rm", "-rf", str(tree)], check=True)


def _run(name: str, *arguments: str, given: str = "") -> None:
    done = subprocess.run([tool(name), *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
