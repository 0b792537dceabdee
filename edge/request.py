"""What the core asks of the worker, and what the worker answers: plain records in MessagePack frames.

Big things do not cross the pipe: adapters go in, and payloads come out, as files.
"""

from __future__ import annotations

import os
import select
import struct
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol

from console.errors import BadData
from wire.messages import Version
from wire.pack import pack, unpack
from wire.record import plain

_LENGTH = struct.Struct(">I")
FRAME_LIMIT_BYTES = 1 << 20
PROVE: Literal["prove"] = "prove"


@dataclass(frozen=True)
class Place:
    """Where the worker finds things; the same for every job of an agent."""

    bundle: str  # folder
    bundle_sha256: str  # of its manifest, whose signature the core has checked
    data: str
    holdout: float
    blobs: str  # folder of blobs, named by SHA-256
    threads: int = 1
    cache: str = ""  # file of activations that never change, for bundles whose trunk is apart
    cache_bytes: int = 0
    providers: tuple[str, ...] = ()  # of onnxruntime, beside the CPU
    corrections: str = ""  # folder of labels that somebody on the board corrected; empty: there is none


@dataclass(frozen=True)
class Request:
    """One job. `versions` are those of the job, in its order; `digests` their digests."""

    id: str
    # mask: what another job made, for a sum; prove: see that a bundle runs
    kind: Literal["train", "statistics", "evaluate", "tail", "fix", "mask", "prove"]
    round: int
    digests: tuple[str, ...]
    versions: tuple[Version, ...]
    place: Place
    out: str  # where the payload goes
    settings: dict[str, Any] = field(default_factory=dict)
    lost: str = ""  # file of what earlier thin updates lost; empty: nothing


@dataclass(frozen=True)
class Result:
    """A finished job: the payload is in `out`."""

    id: str
    samples: int
    metrics: dict[str, Any] = field(default_factory=dict)


class Readable(Protocol):
    """Where frames come from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""


class Requests:
    """What a core says to a worker: nothing is read ahead, so whether there is more can be asked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size and (more := os.read(self._descriptor, size - len(found))):
            found += more
        return bytes(found)

    def ready(self, timeout_s: float) -> bool:
        """Whether there is more, or the end, within some seconds."""
        poll = select.poll()  # select takes no descriptor above 1023
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


def write_frame(stream: IO[bytes], kind: str, record: Any) -> None:
    """Write one frame: 4 bytes of length, big-endian, then MessagePack."""
    body = pack({"frame": kind, **plain(record)})
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_frame(stream: Readable) -> tuple[str, dict[str, Any]] | None:
    """Read one frame; None at the end of the stream.

    Raises:
        BadData: what came is no frame.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_LIMIT_BYTES:
        raise BadData(f"expected a frame of at most {FRAME_LIMIT_BYTES} bytes between core and worker, found {length}")
    body = stream.read(length)
    if len(body) < length:
        return None
    found = unpack(body, "a frame between core and worker")
    if not isinstance(found, dict) or not isinstance(found.get("frame"), str):
        raise BadData("expected a frame between core and worker, found something else")
    return found.pop("frame"), found


def needed_rank(kind: str, settings: dict[str, Any], own: int) -> int:
    """The rank up to which a job needs the ladder.

    >>> needed_rank("train", {"rank": 2}, 8), needed_rank("evaluate", {"ranks": [2, 16]}, 8)
    (2, 16)
    """
    return max(ranks(kind, settings, own), default=0)


def ranks(kind: str, settings: dict[str, Any], own: int) -> list[int]:
    """The ranks that a job works at; a board never trains above its own, forward passes may take a longer prefix."""
    told = settings.get("ranks")
    if kind in ("evaluate", "statistics", "fix", "tail") and isinstance(told, (list, tuple)) and told:
        return [r for r in told if isinstance(r, int) and r >= 0] or [own]
    if kind in ("train", "tail") and isinstance(settings.get("rank"), int):
        return [max(0, min(own, settings["rank"]))]
    return [own]


def needed_blobs(version: Version, rank: int) -> list[tuple[str, int]]:
    """Digest and size of the blobs of a version for a rank: rungs that begin below it, head, other kinds, and edits."""
    blobs = [(r.blob, r.bytes) for r in version.rungs if r.low < rank]
    blobs += [(version.head, version.head_bytes)] if version.head else []
    blobs += [(version.others, version.others_bytes)] if version.others else []
    return blobs + [(edit.blob, edit.bytes) for edit in version.edits]
