"""The doors of `edge.split`: what another half says, the frames it says it in, what a job says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge.split.line import Frames, frame
from edge.split.stream import WINDOW, Stream
from edge.split.told import other_of
from tests.fuzz import mutate
from tests.fuzz.decoder import Decoder, of_bytes
from tests.fuzz.decoders_edge import behind_a_byte
from wire import messages as m
from wire.keys import PublicKey
from wire.pack import pack, unpack

SENDER = m.Sender("barn-1", "boot", 1)
PEERS: tuple[Any, ...] = ("open", "credit", "here", "bye")
KEY = PublicKey("device", bytes(range(32)), "barn-1").line


def _frames() -> tuple[bytes, ...]:
    return (frame(m.Peer, b"signed") + frame(m.Crossing, b"signed, too"), frame(m.Crossing, bytes(99)))


def _met() -> tuple[Stream, Stream]:
    """Two streams that have met."""
    ours, theirs = Stream(0.0), Stream(0.0)
    for _ in range(3):
        for one, other in ((ours, theirs), (theirs, ours)):
            for kind, fields in one.out:
                other.heard(kind(sender=SENDER, job="j", **fields), 0.0)
            one.out.clear()
    return ours, theirs


def _said() -> tuple[bytes, ...]:
    """A byte for the type, and what a half can say."""
    told: dict[str, Any] = {"sender": SENDER, "job": "j", "stream": "0" * 16, "answers": "0" * 16}
    fields = {"next": 0, "until": 8, "reason": "no memory"}
    peers = [m.Peer(what=what, fields=fields, **told) for what in PEERS]
    said: list[Any] = [m.Crossing(number=0, what="forth", data=b"xy", **told), *peers]
    return tuple(bytes([isinstance(one, m.Peer)]) + m.encode(one) for one in said)


def _heard(data: bytes) -> None:
    """Whatever is said, and signed by the right key, is taken or left, and nothing is kept beyond the credit."""
    ours, theirs = _met()
    found: Any = m.decode(data[1:], m.Peer if data[:1] == b"\x01" else m.Crossing)
    for known in (found, replace(found, stream=theirs.own, answers=ours.own)):
        ours.heard(known, 1.0)
        ours.look(2.0)
    if len(ours.parts) + len(ours._early) > WINDOW or len(ours.out) > 2 * WINDOW:
        raise AssertionError("more is kept than may come")


def _named(data: bytes) -> Any:
    found = unpack(data, "settings")
    return [other_of("j.tail", kind, {"split": found}) for kind in ("train", "tail")]


def _settings() -> tuple[bytes, ...]:
    return (pack({"tail": "coop", "board": "barn-1", "key": KEY, "coding": "int8", "address": "coop.example:8886"}),)


SPLIT: tuple[Decoder, ...] = (
    of_bytes("messages of another half", behind_a_byte(mutate.bent_msgpack), _heard, _said),
    of_bytes("frames of another half", mutate.bent_bytes, lambda data: list(Frames().add(data)), _frames),
    of_bytes("the other half of a job", mutate.bent_msgpack, _named, _settings),
)
