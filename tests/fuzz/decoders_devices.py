"""The doors of installing, flashing and planning: images, wheels, what boards and this machine's own tools answer."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from devices.flash.disks import parse_disks
from devices.flash.foretold import foretell
from devices.flash.limit import Limit
from devices.flash.partitions import read_partitions
from devices.flash.ssh_keys import ssh_key_problem
from devices.flash.staging import stage
from devices.install.plan import identity_in
from devices.install.root import _answer
from devices.payload.unpacked import unpack
from devices.payload.wheelhouse import Wheel
from devices.split.fleet_plan import parse_fleet_plan, plan_bytes
from edge.ended import FILE, read_end
from edge.slots import launch
from tests.devices.payload.houses import tiny
from tests.devices.split.plans import BARN, PLAN
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes

SSH_KEYS = (
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd me",
    b"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA== me",
)
IMAGE_LIMIT = Limit(4 << 20)
DISKS = {
    "blockdevices": [
        {"name": "sda", "path": "/dev/sda", "type": "disk", "size": 1 << 30, "ro": False, "rm": "1", "tran": "usb",
         "vendor": "A ", "model": "B", "serial": "C", "mountpoints": [None],
         "children": [{"name": "sda1", "type": "part", "label": "boot", "mountpoint": "/media/x"}]},
        {"name": "mmcblk0", "type": "disk", "size": "123", "ro": "0", "rm": 0, "hotplug": None},
    ]
}  # fmt: skip


def _raw() -> bytes:
    """An MBR with two partitions in 24 KiB: one says FAT32, one ext4."""
    image = bytearray(24 << 10)
    struct.pack_into("<B3xB3xII", image, 446, 0, 0x0C, 2, 8)
    struct.pack_into("<B3xB3xII", image, 462, 0, 0x83, 16, 32)
    image[510:512] = b"\x55\xaa"
    image[2 * 512 + 82 : 2 * 512 + 87] = b"FAT32"
    image[16 * 512 + 1024 + 56 : 16 * 512 + 1024 + 58] = b"\x53\xef"
    return bytes(image)


def _gpt() -> bytes:
    image = bytearray(24 << 10)
    struct.pack_into("<B3xB3xII", image, 446, 0, 0xEE, 1, 47)
    image[510:512] = b"\x55\xaa"
    struct.pack_into("<8s64xQII", image, 512, b"EFI PART", 2, 4, 128)
    struct.pack_into("<16s16sQQQ72s", image, 1024, b"t" * 16, b"i" * 16, 16, 40, 0, "APP".encode("utf-16-le"))
    return bytes(image)


def _images() -> tuple[bytes, ...]:
    raw, packed = _raw(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sd-blob.img", raw)
    return (raw, _gpt(), lzma.compress(raw), gzip.compress(raw), bz2.compress(raw), packed.getvalue())


def _image(folder: Path) -> Case:
    """Looked into before it is unpacked, unpacked, and looked into again."""

    def read(data: bytes) -> Any:
        image, out = folder / "image", folder / "staged"
        image.write_bytes(data)
        out.unlink(missing_ok=True)
        foretell(image, IMAGE_LIMIT)
        return read_partitions(stage(image, out, IMAGE_LIMIT).path).parts

    return Case(_images(), read)


def _wheel(folder: Path) -> Case:
    """Unpacked into a cache of its own each time."""
    seed = tiny(folder / "seeds", "library", "1.0", files={"library/part.bin": bytes(300)}).read_bytes()

    def read(data: bytes) -> Any:
        path, cache = folder / "library-1.0-py3-none-any.whl", folder / "cache"
        path.write_bytes(data)
        shutil.rmtree(cache, ignore_errors=True)
        return unpack(Wheel("library", "1.0", path, "0" * 64), cache)

    return Case((seed,), read)


def _in_file(name: str, read: Any, *seeds: bytes) -> Any:
    """What is read from a file of a folder."""

    def opened(folder: Path) -> Case:
        def there(data: bytes) -> Any:
            (folder / name).write_bytes(data)
            return read(folder)

        return Case(seeds, there)

    return opened


ENDED = json.dumps({"kind": "BadData", "sentence": "expected x", "times": 2, "at_s": 5.0}).encode()
TRIAL = b'{"release": "0.2.0+bb", "before": "0.1.0+aa", "starts": 1}'
IDENTITY = b'{"name": "barn-1", "fleet": "farm", "more": [1]}'

DEVICES = (
    of_bytes("what lsblk says", mutate.bent_json, parse_disks, lambda: (json.dumps(DISKS).encode(),)),
    Decoder("an image of a card", mutate.bent_bytes, _image, weight=0.2),
    Decoder("an archive of an image", mutate.bent_zip, lambda folder: replace(_image(folder), seeds=_images()[-1:])),
    Decoder("a wheel", mutate.bent_zip, _wheel, weight=0.2),
    of_bytes(
        "a plan of a fleet",
        mutate.bent_json,
        lambda data: parse_fleet_plan(data, "plan.json"),
        lambda: (plan_bytes(PLAN), plan_bytes(replace(PLAN, boards=(BARN,), tail=None))),
        write=plan_bytes,
    ),
    of_bytes(
        "who a board says it is",
        mutate.bent_json,
        lambda data: identity_in(data.decode(errors="replace")),
        lambda: (IDENTITY,),
    ),
    of_bytes(
        "a public SSH key",
        mutate.bent_text,
        lambda data: ssh_key_problem(data.decode(errors="replace")),
        lambda: SSH_KEYS,
    ),
    of_bytes("what a board answers", mutate.bent_json, _answer, lambda: (b'{"python": "3.11", "free": 5}',)),
    Decoder("a last word", mutate.bent_json, _in_file(FILE, read_end, ENDED)),
    Decoder("a trial of a release", mutate.bent_json, _in_file(launch.TRIAL, launch.settle, TRIAL)),
)  # fmt: skip
