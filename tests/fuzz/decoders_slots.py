"""The doors of releases of the agent: manifests, streams, and what a board remembers of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from edge.slots import launch
from edge.slots.record import RECORD, Record
from edge.slots.slots import Slots
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from wire.files import digest
from wire.messages import Program
from wire.packed import LAST, STREAM, Packed, Part, pack, parse, to_bytes, unpack

FILES = {"lib/a.py": b"print()\n" * 50, LAST: b"{}\n"}
TRIAL = json.dumps({"release": "0.2.0+bbbbbbbb", "before": "0.1.0+aaaaaaaa", "starts": 1}).encode()


def _packed(folder: Path) -> Packed:
    size, found = pack([lambda data=data: io.BytesIO(data) for data in FILES.values()], folder / STREAM)  # type: ignore[misc]
    parts = tuple(Part(path, len(data), digest(data)) for path, data in FILES.items())
    return Packed("0.2.0+bbbbbbbb", "3.11", "2.36", "aarch64", size, found, parts)


def _manifests() -> tuple[bytes, ...]:
    parts = tuple(Part(path, len(data), digest(data)) for path, data in FILES.items())
    return (to_bytes(Packed("0.2.0+bbbbbbbb", "3.11", "2.36", "aarch64", 99, "0" * 64, parts)),)


def _stream(folder: Path) -> Case:
    """A stream that is not what its manifest says: the digest of it is compared elsewhere."""
    packed = _packed(folder)
    seed = (folder / STREAM).read_bytes()

    def read(data: bytes) -> Any:
        (folder / STREAM).write_bytes(data)
        unpack(folder / STREAM, packed, folder / "out")
        return packed.version

    return Case((seed,), read)


def _record(folder: Path) -> tuple[bytes, ...]:
    record = Record(folder)
    record.follow(Program("barn-1", 4, "0" * 64, (":8884",)))
    record.enter("fetch", version="0.2.0+bbbbbbbb")
    return (record.path.read_bytes(),)


SLOTS: tuple[Decoder, ...] = (
    of_bytes("manifest of a release", mutate.bent_json, parse, _manifests, write=to_bytes),
    Decoder("stream of a release", mutate.bent_bytes, _stream, weight=0.5),
    of_file("record of releases", mutate.bent_json, RECORD, lambda path: Record(path.parent).kept, _record),
    of_file("trial of a release", mutate.bent_json, launch.TRIAL, lambda p: launch.read(p.parent), lambda f: (TRIAL,)),
    of_file(
        "release that was given up",
        mutate.bent_json,
        launch.GAVE_UP,
        lambda p: Slots(p.parent).gave_up,
        lambda f: (TRIAL,),
    ),
)
