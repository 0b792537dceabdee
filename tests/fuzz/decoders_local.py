"""The doors of an agent's local API: what programs on its board send, and the labels that it keeps of it."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

from edge.data.corrections import Corrections, read_corrections
from edge.local.answering import opened
from edge.local.bodies import read_feedback, read_generate, read_infer
from edge.local.desk import Asked, Reply
from edge.local.room import Room
from edge.local.talk import Talk
from edge.local.wire import TooMuch
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from tests.fuzz.decoders_edge import behind_a_byte
from wire.files import digest

TAKES = ("text", "image", "tensors")
TYPES = ("", "application/json", "text/plain", "image/png", "audio/wav")
DIALOGUE_BYTES = 8 << 10  # more answers than a socket holds would wait for a reader
DIALOGUE = (
    b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1:8427\r\nAuthorization: Bearer secret\r\nContent-Length: 15\r\n\r\n"
    b'{"text": "red"}GET /v1/status HTTP/1.1\r\nHost: localhost:8427\r\nAuthorization: Bearer secret\r\n\r\n'
)
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()
BODIES = (
    (0, {"texts": ["red", "green"], "top": 2}),
    (1, {"image": PNG, "images": [PNG]}),
    (2, {"sound": base64.b64encode(b"RIFF0000WAVErest").decode()}),
    (2, {"arrays": {"x": [[1, 2.5]]}}),
    (15, {"text": "red", "label": "apple"}),
    (15, {"sample": "0" * 64, "label": "apple"}),
    (30, {"prompt": "once", "max_new_tokens": 3}),
)
PLAIN = (b"\x06plain text", b"\x0a\xff\xd8\xffpicture", b"\x0eRIFF0000WAVErest")


def _talk(data: bytes) -> Any:
    """All that a connection says, over loopback's doorway, and what is answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data[:DIALOGUE_BYTES])
        ours.shutdown(socket.SHUT_WR)
        asked: list[Asked] = []

        def answer(request: Asked) -> Reply:
            asked.append(request)
            return Reply(200, {})

        try:
            Talk(theirs, answer, Room(), 8427, "secret")
        except (OSError, TooMuch):  # what the server takes for the end of a connection
            return asked
    return asked


def _body(data: bytes) -> Any:
    """The first byte says which door, what the bundle takes and how the body is called."""
    how, body = (data[0] if data else 0), data[1:]
    takes, kind = TAKES[how % 3], TYPES[how // 3 % 5]
    if how // 15 == 0:
        return read_infer(body, kind, takes)
    return read_feedback(body, kind, takes) if how // 15 == 1 else read_generate(body, kind)


def _bodies() -> tuple[bytes, ...]:
    return tuple(bytes([how]) + json.dumps(body).encode() for how, body in BODIES)


def _corrections(folder: Path) -> tuple[bytes, ...]:
    made = Corrections(folder / "made")
    made.put("text", b"red", "", "apple")
    made.put("text", b"green", "", "pear")
    made.put("image", b"\x89PNG", ".png", "pear")
    return ((folder / "made" / "rows.jsonl").read_bytes(),)


def _arrays(path: Path) -> Any:
    return opened("arrays", path.read_bytes(), path.with_name("copy"))


def _again(found: dict[str, Any]) -> bytes:
    return b"".join(one.line() for one in found.values())


def _read(data: bytes, folder: Path) -> dict[str, Any]:
    place = folder / digest(data)[:8]
    place.mkdir(exist_ok=True)
    (place / "rows.jsonl").write_bytes(data)
    return read_corrections(place)


def _opened_corrections(folder: Path) -> Case:
    return Case(_corrections(folder), lambda data: _read(data, folder), _again)


LOCAL: tuple[Decoder, ...] = (
    of_bytes("connection of a local program", mutate.bent_text, _talk, lambda: (DIALOGUE,)),
    of_bytes("body of a local request", behind_a_byte(mutate.bent_json), _body, _bodies),
    of_bytes("plain body of a local request", mutate.bent_bytes, _body, lambda: PLAIN),
    of_file("arrays of a local request", mutate.bent_json, "x.json", _arrays, lambda f: (b'{"x": [[1, 2.5]]}',)),
    Decoder("labels that were corrected", mutate.bent_lines, _opened_corrections, weight=0.5),
)
