"""Tensors that cross the border between two halves of a model, as bytes: exact, in 16 bits, or in 8 bits per number.

What gradients flow through may be coded: a row (the last axis) is divided by its own scale, so that neither large
activations nor tiny gradients are lost. float16: the power of two above its largest number; int8: its largest number
over 127, rounded to nearest, with an error of at most 1/254 of that number. Scores that a mask has taken out of a
softmax (-1e30 and below) have a code of their own and come back as float32's lowest number. All else (masks, ids)
goes as it is.

Bytes: length of the header (4, big-endian), the header (MessagePack: name and coding of each tensor, in order), then
tensor by tensor the scales (float32, little-endian) and the numbers. Types and shapes are not said: both sides have
them from their manifests.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from wire.manifest import Tensor
from wire.pack import pack, unpack

Array = NDArray[Any]
Coding = Literal["float32", "float16", "int8"]
CODINGS: tuple[Coding, ...] = ("float32", "float16", "int8")
EXACT: Coding = "float32"
MOST_HEADER = 1 << 16
_LENGTH = struct.Struct(">I")
_CODED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "int8": np.dtype("i1")}
_LARGEST = {"float16": 1.0, "int8": 127.0}
MASKED, LOWEST = -1e30, np.finfo(np.float32).min
_CODE = {"float16": -np.inf, "int8": -128}  # of what is masked


def pack_tensors(tensors: Mapping[str, Array], codings: Mapping[str, Coding] | None = None) -> bytes:
    """Arrays of any shape to bytes; those named in `codings` are float32 and are coded so.

    Raises:
        BadData: a number that is to be coded is infinite (and not masked) or no number.

    >>> made = {"x": np.array([[0.5, -2.0], [0.0, 0.0]], np.float32)}
    >>> data = pack_tensors(made, {"x": "int8"})
    >>> unpack_tensors(data, [Tensor("x", "float32", (2, 2))])["x"].astype(float).round(3).tolist()
    [[0.504, -2.0], [0.0, 0.0]]
    """
    codings = {name: coding for name, coding in (codings or {}).items() if coding != EXACT}
    header = pack([[name, codings.get(name, EXACT)] for name in tensors])
    parts = [_LENGTH.pack(len(header)), header]
    for name, array in tensors.items():
        if name not in codings:
            parts.append(_little(array).tobytes())
            continue
        scales, numbers = _coded(np.asarray(array, np.float32), codings[name], name)
        parts += [scales.tobytes(), numbers.tobytes()]
    return b"".join(parts)


def unpack_tensors(data: bytes, expected: Sequence[Tensor]) -> dict[str, Array]:
    """Bytes to arrays of the types and shapes that are expected; coded ones come back as float32.

    Raises:
        BadData: other tensors, other lengths, a coding that nobody knows, or a scale that is no finite number.
    """
    header, at = _header(data)
    names = [name for name, _ in header]
    if names != [tensor.name for tensor in expected]:
        raise BadData(f"expected the tensors {join([t.name for t in expected])}, found {join(names)}; it was ignored")
    out: dict[str, Array] = {}
    for tensor, (name, coding) in zip(expected, header, strict=True):
        out[name], at = _decoded(data, at, tensor, coding)
    if at != len(data):
        raise BadData(f"expected {at} bytes of {join(names)}, found {len(data)}; it was ignored")
    return out


def _coded(array: Array, coding: Coding, name: str) -> tuple[Array, Array]:
    rows = array.reshape(-1, array.shape[-1] if array.ndim else 1)
    masked = rows <= MASKED
    most = np.abs(np.where(masked, 0, rows)).max(axis=1, initial=0)
    if not np.isfinite(most).all():
        raise BadData(f"expected finite numbers in {name}, found others; lower the learning rate")
    if coding == "float16":
        scales = np.ldexp(np.float32(1), np.frexp(most)[1]).astype(np.float32)
    else:
        scales = _scales(most, np.float32(_LARGEST[coding]))
    safe = np.where(scales > 0, scales, 1)[:, None]
    numbers = np.where(masked, 0, rows) / safe
    made = (np.rint(numbers) if coding == "int8" else numbers).astype(_CODED[coding])
    made[masked] = _CODE[coding]
    return scales.astype("<f4"), made


def _scales(most: Array, largest: np.float32) -> Array:
    """What a row is divided by; among subnormal numbers a step more, or its largest number would leave a byte."""
    scales = (most / largest).astype(np.float32)
    too_small = np.rint(most / np.where(scales > 0, scales, 1)) > largest
    more = np.nextafter(scales, np.float32(np.inf), dtype=np.float32)
    return np.where(too_small | ((scales == 0) & (most > 0)), more, scales)


def _header(data: bytes) -> tuple[list[tuple[str, str]], int]:
    length = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else MOST_HEADER + 1
    end = _LENGTH.size + length
    if length > MOST_HEADER or end > len(data):
        raise BadData("expected tensors, found bytes that are cut short; they were ignored")
    found = unpack(data[_LENGTH.size : end], "the header of tensors")
    if not isinstance(found, list) or not all(_is_entry(one) for one in found):
        raise BadData("expected names and codings of tensors, found something else; it was ignored")
    return [(str(name), str(coding)) for name, coding in found], end


def _is_entry(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and found[1] in CODINGS


def _decoded(data: bytes, at: int, tensor: Tensor, coding: str) -> tuple[Array, int]:
    shape = tuple(int(size) for size in tensor.shape)
    if coding == EXACT:
        found, at = _taken(data, at, np.dtype(tensor.dtype).newbyteorder("<"), int(np.prod(shape, dtype=np.int64)))
        return found.astype(tensor.dtype).reshape(shape), at
    if tensor.dtype != "float32":
        raise BadData(f"expected {tensor.name} as it is, for it is {tensor.dtype}; found it in {coding}")
    width = shape[-1] if shape else 1
    rows = int(np.prod(shape, dtype=np.int64)) // max(1, width)
    scales, at = _taken(data, at, np.dtype("<f4"), rows)
    numbers, at = _taken(data, at, _CODED[coding], rows * width)
    codes = numbers.reshape(rows, width)
    masked = codes == _CODE[coding]
    made = np.where(masked, 0, codes).astype(np.float32) * scales.astype(np.float32)[:, None]
    made[masked] = LOWEST
    if not np.isfinite(made).all():
        raise BadData(f"expected finite numbers in {tensor.name}, found others; they were ignored")
    return made.reshape(shape), at


def _taken(data: bytes, at: int, dtype: np.dtype[Any], count: int) -> tuple[Array, int]:
    end = at + count * dtype.itemsize
    if end > len(data):
        raise BadData(f"expected {end} bytes of tensors or more, found {len(data)}; they were ignored")
    return np.frombuffer(data, dtype, count, at), end


def _little(array: Array) -> Array:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
