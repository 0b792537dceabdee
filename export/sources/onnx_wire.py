"""An ONNX file without its weights: large tensors stay where they are, as places in the file.

protobuf would copy them, and copy them again when they are read. The wire format is read here instead, over a
mapping of the file, down to the fields of initializers; what is left is small and goes through protobuf.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; encoding:
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from console.errors import BadData, StorageError
from export.sources.problems import short

PROTO_LIMIT_BYTES = 2 << 30  # as protobuf itself
REST_LIMIT_BYTES = 256 << 20  # nodes, names and small tensors; protobuf needs several times as much
FIELD_LIMIT = 4_000_000  # of one graph
INLINE_BYTES = 1024  # smaller tensors stay in the graph

GRAPH, INITIALIZER = 7, 5
# packed floats and doubles lie in a file as their raw bytes do
FLOAT_DATA, RAW_DATA, DOUBLE_DATA = 4, 9, 10
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Place:
    """Bytes of the ONNX file itself. `field` says which one of a tensor they were."""

    offset: int
    length: int
    field: int


@dataclass(frozen=True)
class Field:
    """One field on the wire: where it begins with its tag, and where its content is."""

    number: int
    wire: int
    start: int
    content: int
    end: int


def read_proto(path: Path) -> tuple[onnx.ModelProto, dict[int, Place]]:
    """Read an ONNX file.

    Returns:
        The model without the data of its large initializers, and where that data is, by position among the
        initializers of the main graph.

    Raises:
        StorageError: it cannot be read.
        BadData: it is empty, cut off, too large, or no ONNX at all.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= PROTO_LIMIT_BYTES:
            raise BadData(
                f"expected an ONNX file of 1 byte to 2 GiB at {path}, found {size} bytes; "
                "save larger weights as external data"
            )
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            rest, places = _without_weights(data, size)
        if len(rest) > REST_LIMIT_BYTES:
            raise ValueError(f"{len(rest)} bytes that are not weights of the main graph")
        proto = onnx.ModelProto.FromString(rest)
        _check_texts(proto)
    except OSError as error:
        raise StorageError(
            f"expected an ONNX file at {path}, found none that can be read ({error.strerror}); check the path"
        ) from error
    except (ValueError, DecodeError) as error:
        raise BadData(
            f"expected an ONNX model in {path}, found bytes that are none ({error}); fetch or export the file again"
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise BadData(f"expected an ONNX model in {path}, found no graph in it; fetch or export the file again")
    return proto, places


def _check_texts(message: Any) -> None:
    """Names are UTF-8: protobuf does not check it, and hands out bytes where it is not so.

    Raises:
        ValueError: one that is none.
    """
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_STRING:
            texts = [value] if isinstance(value, str | bytes) else value
            wrong = [text for text in texts if isinstance(text, bytes)]
            if wrong:
                shown = short(wrong[0].decode(errors="replace"))
                raise ValueError(f"a {descriptor.name} that is no UTF-8: {shown}")
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _check_texts(part)


def _without_weights(data: mmap.mmap, size: int) -> tuple[bytes, dict[int, Place]]:
    parts: list[bytes] = []
    places: dict[int, Place] = {}
    count = 0
    for top in _fields(data, 0, size):
        if top.number != GRAPH or top.wire != BYTES:
            parts.append(data[top.start : top.end])
            continue
        inside: list[bytes] = []
        kept = top.content  # where what was not yet copied begins
        for number, one in enumerate(_fields(data, top.content, top.end)):
            if number > FIELD_LIMIT:
                raise ValueError(f"more than {FIELD_LIMIT} parts in one graph")
            if one.number != INITIALIZER or one.wire != BYTES:
                continue
            if one.end - one.content > INLINE_BYTES:
                held = _place(data, one)
                if held is not None:
                    places[count] = Place(held.content, held.end - held.content, held.number)
                    inside.append(data[kept : one.start])
                    tensor = data[one.content : held.start] + data[held.end : one.end]
                    inside.append(_tag(INITIALIZER) + _varint_bytes(len(tensor)) + tensor)
                    kept = one.end
            count += 1
        inside.append(data[kept : top.end])
        graph = b"".join(inside)
        parts.append(_tag(GRAPH) + _varint_bytes(len(graph)) + graph)
    return b"".join(parts), places


def _place(data: mmap.mmap, tensor: Field) -> Field | None:
    """The one field of a tensor that holds nearly all of it; None where it is not that simple."""
    large = [
        f
        for f in _fields(data, tensor.content, tensor.end)
        if f.wire == BYTES and f.number in {FLOAT_DATA, RAW_DATA, DOUBLE_DATA}
    ]
    return large[0] if len(large) == 1 and large[0].end - large[0].content > INLINE_BYTES else None


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """The fields between two places.

    Raises:
        ValueError: they are cut off, or no protobuf.
    """
    at = start
    while at < end:
        key, content = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            _, stop = _varint(data, content, end)
        elif wire == BYTES:
            length, content = _varint(data, content, end)
            stop = content + length
        elif wire in {FIXED32, FIXED64}:
            stop = content + (4 if wire == FIXED32 else 8)
        else:
            raise ValueError(f"no field of protobuf at byte {at}")
        if number == 0 or stop > end:
            raise ValueError(
                f"the field at byte {at} ends {stop - end} bytes behind its message" if number else "no field"
            )
        yield Field(number, wire, at, content, stop)
        at = stop


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number is cut off at byte {at}")


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int) -> bytes:
    return _varint_bytes(number << 3 | BYTES)
