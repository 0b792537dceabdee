"""Do the tensors of an ONNX file have the bytes that their shapes promise, and are those where they may be?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir

from export.sources.onnx_wire import DOUBLE_DATA, FLOAT_DATA, Place
from export.sources.problems import Problems, short

LARGEST_ELEMENTS = 1 << 40
LARGEST_RANK = 64  # numpy's own limit
KEYS = {"location", "offset", "length", "checksum"}
TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# which types each field may hold, and how many of its entries one element takes: onnx.proto, TensorProto
HOLDS: Mapping[str, tuple[str, ...]] = {
    "float_data": ("FLOAT", "COMPLEX64"),
    "int32_data": (
        *("INT32", "INT16", "INT8", "UINT16", "UINT8", "BOOL", "FLOAT16", "BFLOAT16"),
        *("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"),
        *("UINT4", "INT4", "FLOAT4E2M1", "UINT2", "INT2"),
    ),
    "int64_data": ("INT64",),
    "double_data": ("DOUBLE", "COMPLEX128"),
    "uint64_data": ("UINT32", "UINT64"),
}


@dataclass
class Store:
    """Where the weights of a file are: its folder, and the files in it that hold external data."""

    path: Path
    places: Mapping[int, Place]
    problems: Problems
    external: dict[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that external data may be in."""
        return self.path.parent


def check_tensor(tensor: onnx.TensorProto, store: Store, place: Place | None = None) -> bool:
    """Whether a tensor is whole; what is wrong goes to the store's problems.

    Args:
        tensor: as the file describes it.
        store: of the file.
        place: of its data, where that was left in the file.
    """
    problems, name = store.problems, f"the tensor {short(tensor.name)}"
    kind = _type_name(tensor.data_type)
    if kind in {"", "UNDEFINED"}:
        problems.broken.append(f"{name} of the unknown type {tensor.data_type}")
        return False
    if kind == "STRING" or kind.startswith("COMPLEX"):
        problems.unsupported.append(f"{name} of the type {kind.lower()}")
        return False
    dims = list(tensor.dims)
    if any(dim < 0 for dim in dims) or prod(dims) > LARGEST_ELEMENTS or len(dims) > LARGEST_RANK:
        problems.broken.append(f"{name} of the impossible shape {_words(dims)}")
        return False
    if tensor.HasField("segment"):
        problems.unsupported.append(f"{name} in segments")
        return False
    found = [word for word in (_held(tensor, kind, prod(dims), store, place),) if word]
    problems.broken.extend(f"{name} {word}" for word in found)
    return not found


def _held(tensor: onnx.TensorProto, kind: str, elements: int, store: Store, place: Place | None) -> str:
    """What is wrong with a tensor's data; empty if nothing is."""
    expected = size_bytes(tensor.data_type, elements)
    typed = [name for name in TYPED if len(getattr(tensor, name))]
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if len(typed) + tensor.HasField("raw_data") + (place is not None) + bool(external or tensor.external_data) > 1:
        return "whose data is there more than once"
    if external:
        return _external(tensor, expected, store)
    if typed:
        return _typed(tensor, kind, elements, typed[0])
    if place is not None and kind != {FLOAT_DATA: "FLOAT", DOUBLE_DATA: "DOUBLE"}.get(place.field, kind):
        return f"of the type {kind.lower()} with data of another type"
    return _differs(len(tensor.raw_data) if place is None else place.length, expected, tensor)


def _typed(tensor: onnx.TensorProto, kind: str, elements: int, name: str) -> str:
    if kind not in HOLDS.get(name, ()):
        return f"of the type {kind.lower()} with {name}"
    bits = _bits(tensor.data_type)
    entries = -(-elements * bits // 8) if bits < 8 else elements
    return _differs(len(getattr(tensor, name)), entries, tensor, "numbers")


def _differs(found: int, expected: int, tensor: onnx.TensorProto, unit: str = "bytes") -> str:
    if found == expected:
        return ""
    return f"with {found} {unit}, where its shape {_words(list(tensor.dims))} takes {expected}"


def _external(tensor: onnx.TensorProto, expected: int, store: Store) -> str:
    """What is wrong with a reference to another file."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    problem = _entries(tensor, given, expected)
    if problem:
        return problem
    offset = int(given.get("offset", "0"))
    path, problem = data_file(store, given["location"])
    if path is None:
        return problem
    there = path.stat().st_size
    if offset + expected > there:
        return f"at byte {offset} of {short(given['location'])}, which has {there} bytes and not {offset + expected}"
    store.external[given["location"]] = path
    return ""


def _entries(tensor: onnx.TensorProto, given: Mapping[str, str], expected: int) -> str:
    """What is wrong with the entries of a reference; empty if nothing is."""
    if len(given) != len(tensor.external_data) or "location" not in given:
        return "whose external data has no location, or two"
    if unknown := sorted(set(given) - KEYS):
        return f"whose external data has the unknown entry {short(unknown[0])}"
    offset, length = given.get("offset", "0"), given.get("length", "0")
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (offset, length)):
        return f"whose external data is at offset {short(offset)}, length {short(length)}"
    if "length" in given and int(length) != expected:
        return _differs(int(length), expected, tensor) + " (external data)"
    return ""


def data_file(store: Store, location: str) -> tuple[Path | None, str]:
    """The file of a location, or why it is refused: it must be a file in the model's folder or below.

    A location comes from whoever made the model: `../` and links would let it read any file of this machine.
    """
    if location in store.external:
        return store.external[location], ""
    named = f"whose data is in {short(location)}"
    pure = PurePosixPath(location)
    if not location or "\0" in location or "\\" in location or len(location) > 4096:
        return None, f"{named}, which is no file name"
    if pure.is_absolute() or ".." in pure.parts:
        return None, f"{named}, outside the model's folder"
    try:
        real = (store.folder / location).resolve(strict=True)
        inside = real.is_relative_to(store.folder.resolve())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a circle of links"
        return None, f"{named}, which cannot be read ({reason})"
    if inside and real.is_file():
        return real, ""
    return None, f"{named}, which is no file" if inside else f"{named}, a link out of the folder (copy the file itself)"


def size_bytes(data_type: int, elements: int) -> int:
    """Bytes of so many elements; types of less than a byte are packed.

    >>> size_bytes(onnx.TensorProto.FLOAT, 3), size_bytes(onnx.TensorProto.INT4, 3)
    (12, 2)
    """
    return -(-elements * _bits(data_type) // 8)


@cache
def _bits(data_type: int) -> int:
    return ir.DataType(data_type).bitwidth


@cache
def _type_name(data_type: int) -> str:
    try:
        name = onnx.TensorProto.DataType.Name(data_type)
        return name if name == "UNDEFINED" or ir.DataType(data_type).bitwidth else ""
    except (ValueError, TypeError):
        return "STRING" if data_type == onnx.TensorProto.STRING else ""


def _words(dims: list[int]) -> str:
    shown = " x ".join(map(str, dims[:8])) or "scalar"
    return shown if len(dims) <= 8 else f"{shown} x ... ({len(dims)} dimensions)"
