"""Ways to bend valid bytes: where they have a structure, along it; and everywhere, without knowing any."""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence

import msgpack

from tests.fuzz import trees

Bend = Callable[[bytes, random.Random], bytes]
LENGTHS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1)
LIMIT_BYTES = 64 << 10  # of an input; what is larger is cut


def bent_bytes(data: bytes, draw: random.Random) -> bytes:
    """One to four changes that know nothing of the format."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        _change(found, draw)
    return bytes(found[:LIMIT_BYTES])


def _change(data: bytearray, draw: random.Random) -> None:
    at, how = draw.randrange(len(data) + 1), draw.random()
    span = min(len(data) - at, draw.choice((1, 1, 2, 4, 8, 40, 400)))
    if how < 0.25 and at < len(data):
        data[at] ^= 1 << draw.randrange(8)
    elif how < 0.4 and at < len(data):
        data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x22, 0x2E, 0x5B, 0x7B, draw.randrange(256)))
    elif how < 0.5:
        del data[at : at + span]
    elif how < 0.6:
        data[at:at] = data[at : at + span] * draw.choice((1, 2, 30))
    elif how < 0.7:
        del data[at:]
    elif how < 0.9:
        width = draw.choice((1, 2, 4, 8))
        lie = draw.choice(LENGTHS) % (1 << 8 * width)
        data[at : at + width] = lie.to_bytes(width, draw.choice(("little", "big")))
    else:
        data[at:at] = draw.randbytes(span)


def bent_json(data: bytes, draw: random.Random) -> bytes:
    """JSON with another tree, or other bytes."""
    return _bent_tree(data, draw, json.loads, trees.as_json, trees.JSON_ONLY)


def bent_msgpack(data: bytes, draw: random.Random) -> bytes:
    """MessagePack with another tree, or other bytes."""
    return _bent_tree(data, draw, msgpack.unpackb, trees.as_msgpack, trees.MSGPACK_ONLY)


def _bent_tree(
    data: bytes, draw: random.Random, read: Callable[[bytes], object], write: trees.Write, odd: tuple[object, ...]
) -> bytes:
    if draw.random() < 0.25:
        return bent_bytes(data, draw)
    tree = trees.grown(read(data))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        tree = trees.bent(tree, draw, odd)
    return write(tree)[: 4 * LIMIT_BYTES]


def bent_lines(data: bytes, draw: random.Random) -> bytes:
    """A file of JSON lines: a line of it bent, twice there, gone, or two of them as one."""
    if draw.random() < 0.3:
        return bent_bytes(data, draw)
    lines = data.splitlines()
    at = draw.randrange(len(lines))
    lines[at : at + 1] = draw.choice(([], [lines[at]] * 2, [bent_json(lines[at], draw)], [lines[at] + lines[0]]))
    return b"\n".join(lines)


LITERALS = (
    b"0", b"-1", b"1.5", b"nan", b"inf", b'""', b'"../x"', b'"a\\u0000b"', b"true", b"[]", b"{}", b"[[]]",
    b"1979-05-27",
    b"9" * 400, b"0x" + b"f" * 5000, b"[" * 2000, b"{a=" * 500, b'"""', b"'''x", b"18446744073709551616",
    b'"' + b"A" * 5000 + b'"',
)  # fmt: skip


def bent_toml(data: bytes, draw: random.Random) -> bytes:
    """TOML with another value behind a name, or lines in another order, doubled, or gone."""
    if draw.random() < 0.3:
        return bent_bytes(data, draw)
    lines = data.splitlines()
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(lines))
        name, is_entry, _ = lines[at].partition(b"=")
        if is_entry and draw.random() < 0.7:
            lines[at] = name + b"= " + draw.choice(LITERALS)
        elif draw.random() < 0.5:
            lines.insert(draw.randrange(len(lines)), lines[at])
        else:
            lines[at] = b""
    return b"\n".join(lines)


def bent_safetensors(data: bytes, draw: random.Random) -> bytes:
    """safetensors: another header, a length that lies, or other bytes."""
    if draw.random() < 0.25:
        return bent_bytes(data, draw)
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    if draw.random() < 0.8:
        header = bent_json(header, draw)
    if draw.random() < 0.2:
        body = bent_bytes(body, draw) if body else b"\x00" * 64
    told = draw.choice(LENGTHS) if draw.random() < 0.1 else len(header)
    return told.to_bytes(8, "little") + header + body


def bent_zip(data: bytes, draw: random.Random) -> bytes:
    """A ZIP archive: a member bent and packed again, so that its checksum holds; or other bytes."""
    if draw.random() < 0.4:
        return bent_bytes(data, draw)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = [(info.filename, file.read(info)) for info in file.infolist()]
    at = draw.randrange(len(members))
    name, content = members[at]
    how = draw.random()
    if how < 0.6:
        members[at] = (name, bent_bytes(content[:200], draw) + content[200:])
    elif how < 0.8:
        members[at] = (draw.choice(("../x.npy", "x", "", "label.npy", "a" * 300, "x/", "\u0000")), content)
    else:
        members.insert(at, members[draw.randrange(len(members))])
    out, packing = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", packing) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = packing
            file.writestr(info, content)
    return out.getvalue()


def bent_tar(data: bytes, draw: random.Random) -> bytes:
    """A TAR archive: a header bent with a checksum that holds, members in another order or twice, or other bytes."""
    if draw.random() < 0.3:
        return bent_bytes(data, draw)
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        members = [(m, (file.extractfile(m) or io.BytesIO()).read()) for m in file.getmembers()]
    at, how = draw.randrange(len(members)), draw.random()
    member, content = members[at]
    if how < 0.2:
        member.type = draw.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        )
        member.linkname = draw.choice(("/etc/passwd", "../../x", member.name))
    elif how < 0.4:
        member.name = draw.choice(("../x", "/tmp/x", "blobs/../../x", "", "a\u0000b", "a" * 300, "hub.toml/x"))
    elif how < 0.6:
        del members[at]
    elif how < 0.75:
        members.insert(0, members[at])
    elif content.startswith(b"{"):
        members[at] = (member, bent_json(content, draw))
    else:
        members[at] = (member, bent_bytes(content, draw))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            file.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def bent_text(data: bytes, draw: random.Random) -> bytes:
    """Text: other bytes, or pieces of it in another order."""
    if draw.random() < 0.6:
        return bent_bytes(data, draw)
    pieces = data.split(draw.choice((b" ", b"\n", b",", b"/", b":", b"-")))
    draw.shuffle(pieces)
    return b" ".join(pieces)


def spliced(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """The head of one and the tail of another."""
    one, other = draw.choice(seeds), draw.choice(seeds)
    return (one[: draw.randrange(len(one) + 1)] + other[draw.randrange(len(other) + 1) :])[:LIMIT_BYTES]
