"""NPZ archives from outside: a ZIP of arrays as `numpy.savez` and `numpy.savez_compressed` write it, and nothing else.

Nothing is unpickled, and nothing is believed before it was compared: how large an array is must agree with its member,
and a member with what deflate can make of its bytes, or a header of 200 bytes could ask for all memory. Arrays that are
stored as they are stay on disk and are mapped from there; packed ones are read as a whole.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.table import mib

Array = NDArray[Any]
LOCAL = struct.Struct("<26xHH")  # lengths of name and extra field in a member's own header (PKWARE APPNOTE 4.3.7)
PACKED_LIMIT_BYTES = 256 << 20  # of all packed arrays together, unpacked
MOST_PACKED = 1032  # bytes that one byte of deflate can become (zlib's technical notes)
ENCRYPTED = 1
# what zipfile, zlib and numpy's reader of headers end with
BROKEN = (
    ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RuntimeError, EOFError, SyntaxError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


class Torn(ValueError):
    """A member is not what its checksum says; its name is the message."""


def open_arrays(path: Path) -> dict[str, Array]:
    """Arrays by name, read-only where they are mapped, after a look at the checksum of every member.

    Raises:
        OSError: the file cannot be read.
        Torn: a member is broken.
        ValueError: it is no such archive, with the reason.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = [member for member in file.infolist() if not member.filename.endswith("/")]
            _check(members)
            torn = file.testzip()
            if torn is not None:
                raise Torn(torn)
            return {member.filename.removesuffix(".npy"): _array(path, file, member) for member in members}
    except (OSError, Torn):
        raise
    except BROKEN as error:
        raise ValueError(str(error)[:200] or type(error).__name__) from error


def _check(members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        if member.flag_bits & ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename[:80]} is encrypted, or packed in another way than numpy does it")
        if member.file_size > MOST_PACKED * (member.compress_size + 1):
            raise ValueError(f"{member.filename[:80]} says that it is larger than its bytes can become")
    packed = sum(m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED)
    if packed > PACKED_LIMIT_BYTES:
        raise ValueError(
            f"its packed arrays come to {mib(packed)}, more than {mib(PACKED_LIMIT_BYTES)}; write them with "
            "numpy.savez, whose arrays need no memory"
        )


def _array(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with file.open(member) as data:
        version = np.lib.format.read_magic(data)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"{member.filename} is of version {version} of numpy's format")
        shape, fortran, dtype = read(data)
        header_bytes = data.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects, which are not read")
    count: int = math.prod(int(side) for side in shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != member.file_size - header_bytes:
        raise ValueError(f"{member.filename} is not as large as its header says")
    if not dtype.itemsize and count:
        raise ValueError(f"{member.filename} holds values of no bytes")
    if member.compress_type != zipfile.ZIP_STORED or 0 in shape or not shape:
        with file.open(member) as data:
            whole: Array = np.lib.format.read_array(data, allow_pickle=False)
        return whole
    with path.open("rb") as raw:
        raw.seek(member.header_offset)
        name, extra = LOCAL.unpack(raw.read(LOCAL.size))
    offset = member.header_offset + LOCAL.size + name + extra + header_bytes
    return np.asarray(np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C"))
