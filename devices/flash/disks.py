"""The disks of this machine as people recognise them, and which of them may be written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import StorageError, UsageError
from console.table import mib
from devices.flash.tools import attempt
from wire.json_text import parse_json

COLUMNS = "NAME,PATH,TYPE,SIZE,RO,RM,HOTPLUG,TRAN,VENDOR,MODEL,SERIAL,FSTYPE,LABEL,MOUNTPOINT"
SYSTEM = ("/", "/usr", "/var", "/home", "/boot", "/boot/efi", "/nix", "[SWAP]")
HOLDERS = ("crypt", "lvm", "dm", "raid0", "raid1", "raid5", "raid6", "raid10", "mpath")
REMOVABLE = ("usb", "sd")
KERNEL = Path("/sys/class/block")
# what the kernel says that sits at an mmc host (drivers/mmc/core/bus.c): a card, or a chip that is soldered
MMC = {"SD": "sd", "SDcombo": "sd", "MMC": "emmc"}
BUILT_IN = {
    "emmc": ", an eMMC chip of this machine and no card",
    "mmc": ", as far as the kernel tells (it does not say whether it is an SD card or an eMMC chip)",
}
AREAS = re.compile(r"mmcblk\d+(boot\d+|rpmb|gp\d+)")


@dataclass(frozen=True)
class Disk:
    """A whole disk.

    Attributes:
        path: `/dev/sdb`.
        kind: `disk`, `loop`, or `part` for what is none.
        size_bytes: of it.
        read_only, removable: as the kernel says.
        port: `usb`, `sd` (a card), `emmc` (a chip of this machine), `mmc` (one of the two), `nvme`, `sata`; empty where
            unknown.
        name: vendor and model.
        serial: empty where it has none.
        labels: of its file systems.
        mounted: where something of it is mounted.
        held: what of it others hold: LVM, encryption, RAID.
        sequence: the kernel counts on whenever another medium is put in (Linux 5.15 and newer); None where unknown.
    """

    path: str
    kind: str
    size_bytes: int
    read_only: bool
    removable: bool
    port: str
    name: str
    serial: str
    labels: tuple[str, ...] = ()
    mounted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    sequence: int | None = None

    @property
    def card(self) -> bool:
        """Whether it is a card or a stick, rather than a disk that stays."""
        return self.port in REMOVABLE or (self.removable and self.port in ("", "mmc"))


def disks() -> list[Disk]:
    """All of this machine.

    Raises:
        StorageError: lsblk cannot tell.
    """
    for columns in (f"{COLUMNS},MOUNTPOINTS", COLUMNS):  # util-linux before 2.37 does not know the last
        done = attempt("lsblk", ["-J", "-b", "-o", columns])
        if done.returncode == 0:
            return parse_disks(done.stdout)
    raise StorageError(f"expected lsblk to list disks, it said: {done.stderr.decode(errors='replace').strip()}")


def parse_disks(told: bytes, kernel: Path = KERNEL) -> list[Disk]:
    """What `lsblk -J -b` prints: versions differ in whether flags and sizes are numbers or texts.

    Args:
        told: its words.
        kernel: a folder for each disk, with what lsblk does not say.

    Raises:
        StorageError: it is not that.
    """
    try:
        found = parse_json(told)["blockdevices"]
        return [_disk(row, kernel) for row in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError("expected a list of disks from lsblk, found something else; update util-linux") from error


def _disk(row: Mapping[str, Any], kernel: Path) -> Disk:
    below, name = list(_below(row)), str(row["name"])
    sequence = _said(kernel, name, "diskseq")
    return Disk(
        str(row.get("path") or f"/dev/{row['name']}"),
        str(row.get("type") or ""),
        int(row.get("size") or 0),
        _flag(row.get("ro")),
        _flag(row.get("rm")) or _flag(row.get("hotplug")),
        _port(name, str(row.get("tran") or ""), kernel),
        " ".join(filter(None, (_text(row.get("vendor")), _text(row.get("model"))))),
        _text(row.get("serial")),
        tuple(filter(None, (_text(one.get("label")) for one in below))),
        tuple(dict.fromkeys(place for one in below for place in _places(one))),
        tuple(f"{one['name']} ({one.get('type')})" for one in below if one.get("type") in HOLDERS),
        int(sequence) if sequence.isdecimal() else None,
    )


def _port(name: str, told: str, kernel: Path) -> str:
    """lsblk calls cards and soldered chips alike `mmc`, or nothing; the kernel tells them apart."""
    if not name.startswith("mmcblk") or told not in ("", "mmc"):
        return told
    return MMC.get(_said(kernel, name, "device/type"), "mmc")


def _said(kernel: Path, name: str, what: str) -> str:
    """A word of the kernel; empty where it says nothing."""
    try:
        return (kernel / Path(name).name / what).read_text(encoding="ascii", errors="replace").strip()
    except (OSError, ValueError):
        return ""


def _below(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield row
    for child in row.get("children") or ():
        yield from _below(child)


def _places(row: Mapping[str, Any]) -> Iterator[str]:
    for value in (row.get("mountpoint"), *(row.get("mountpoints") or ())):
        if value:
            yield str(value)


def _flag(value: Any) -> bool:
    return value in (True, 1, "1")


def _text(value: Any) -> str:
    return str(value or "").strip()


def find_disk(path: str, known: Sequence[Disk]) -> Disk:
    """The disk at a path.

    Raises:
        UsageError: it is a partition, or no disk.
    """
    for disk in known:
        if disk.path == path:
            return disk
    shown = ", ".join(disk.path for disk in known if disk.card) or "no card"
    raise UsageError(
        f"expected a whole disk, found {path}: a partition, or no disk of this machine; there is {shown} "
        "(edgequilt flash --list)"
    )


def problems(disk: Disk, needed_bytes: int, largest_bytes: int, *, fixed: bool = False) -> list[str]:
    """Why a disk is not written; nothing where it may be.

    Args:
        disk: it.
        needed_bytes: of the image.
        largest_bytes: larger ones are taken for somebody's archive.
        fixed: whether a disk that is built in was meant.
    """
    found = []
    system = [place for place in disk.mounted if place in SYSTEM]
    if system:
        found.append(f"it holds this system ({', '.join(system)})")
    elif disk.mounted:
        found.append(f"it is mounted at {', '.join(disk.mounted)}; unmount it")
    if disk.held:
        found.append(f"others hold parts of it: {', '.join(disk.held)}")
    if disk.kind not in ("disk", "loop"):
        found.append(f"it is a {disk.kind or 'something'}, no whole disk")
    if AREAS.fullmatch(Path(disk.path).name):
        found.append("it is a boot area of a chip, no disk")
    elif not disk.card and not fixed and disk.kind != "loop":
        found.append(f"it is built in{BUILT_IN.get(disk.port, ', no card or stick')}; --fixed if that is meant")
    if disk.read_only:
        found.append("it is read-only; look for the switch at the card's side")
    if disk.size_bytes > largest_bytes:
        found.append(f"it has {mib(disk.size_bytes)}, more than --max-size {mib(largest_bytes)}")
    if disk.size_bytes < needed_bytes:
        found.append(f"it has {mib(disk.size_bytes)}, the image needs {mib(needed_bytes)}")
    return found


def refuse(disk: Disk, needed_bytes: int, largest_bytes: int, *, fixed: bool = False) -> None:
    """Refuse a disk that may not be written.

    Raises:
        UsageError: with every reason.
    """
    found = problems(disk, needed_bytes, largest_bytes, fixed=fixed)
    if found:
        raise UsageError(
            f"expected a card that may be written, found {disk.path} ({disk.name or 'no name'}): {'; '.join(found)}"
        )
