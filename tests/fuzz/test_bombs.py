"""Small inputs that ask for much: memory, time, a place outside. Whoever knows the formats would send these."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from console.errors import BadData, EdgequiltError, IntegrityError, UsageError
from console.toml import read_toml
from edge.arrays import read_arrays
from edge.data.formats import rows_of
from edge.data.problems import Problems
from edge.sound import read_sound
from hub.store.backup import FORMAT, INDEX, SCHEMA
from hub.store.restore import unpack as unpack_backup
from tests.fuzz.decoders_edge import ARRAYS
from tests.fuzz.run import _high_water
from tests.wire.samples import manifest
from wire import image
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import open_bundle
from wire.envelope import Trust, detached, unseal
from wire.files import digest
from wire.json_text import parse_json
from wire.keys import new_key
from wire.kinds.head import square, triangle
from wire.manifest import parse_manifest
from wire.manifest import to_bytes as manifest_bytes
from wire.pack import LIMIT_BYTES, unpack
from wire.peft import _is_tame
from wire.topics import parse_topic, topic_of

MEMORY_BYTES, TIME_S = 96 << 20, 5.0


def _npy(shape: tuple[int, ...], data: bytes) -> bytes:
    out = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + data


def _zip(name: str, data: bytes, packing: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as file:
        file.writestr(name, data)
    return out.getvalue()


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _safetensors(shape: list[int], data: bytes, dtype: str = "F32") -> bytes:
    told = {"format": "edgequilt-adapter", "schema": "1", "model": "toy"}
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": told, "a/lora/A": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


def _gram_of_bytes(features: int) -> bytes:
    """Statistics whose numbers are of one byte each: the matrix has the square of them, of eight."""
    tensors = {
        "statistics/0/count": np.zeros(0, np.int8),
        "statistics/0/sum": np.zeros((0, features), np.int8),
        "statistics/0/gram": np.zeros(features * (features + 1) // 2, np.int8),
    }
    own = {"format": "edgequilt-adapter", "schema": "1", "model": "toy"}
    return safetensors.numpy.save(tensors, own)


def _riff(rate: int) -> bytes:
    layout = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
    return b"RIFF" + struct.pack("<I", 4000) + b"WAVEfmt " + layout + b"data" + struct.pack("<I", 3000) + bytes(3000)


def _rows(path: Path) -> Any:
    problems = Problems(path, "rows")
    list(rows_of(path, ARRAYS, problems, thorough=True))
    problems.refuse()


def _zeros(count: int) -> bytes:
    """So many numbers that are zero, packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(_npy((count,), b""))
        for _ in range(count >> 18):
            member.write(bytes(1 << 20))
    return out.getvalue()


def _picture(path: Path) -> Any:
    return image._opened(path, "RGB")


def _adapter(path: Path) -> Any:
    return read_adapter(path.read_bytes(), "x")


def _message(path: Path) -> Any:
    return unpack(path.read_bytes(), "x")


MUCH = _npy((1 << 40,), b"")
BOMBS: dict[str, tuple[Callable[[], bytes], str, Callable[[Path], Any]]] = {
    "an array that says it is of 4 TiB": (lambda: _zip("x.npy", MUCH, zipfile.ZIP_STORED), "x.npz", read_arrays),
    "the same as rows to learn from": (lambda: _zip("x.npy", MUCH, zipfile.ZIP_STORED), "x.npz", _rows),
    "more zeros than may be unpacked": (lambda: _zeros(70 << 20), "x.npz", read_arrays),
    "a picture of 900 megapixels": (lambda: _png(30000, 30000), "x.png", _picture),
    "a picture of 81 megapixels": (lambda: _png(9000, 9000), "x.png", _picture),
    "PostScript under a picture's name": (lambda: b"%!PS-Adobe-3.0 EPSF\n", "x.png", _picture),
    "a sound of 4 GHz": (lambda: _riff(0xFFFFFFF1), "x.wav", lambda path: read_sound(path, 16000, 1600)),
    "a tensor that says it is of 4 TiB": (lambda: _safetensors([1 << 20, 1 << 20], bytes(64)), "x", _adapter),
    "a tensor of sides beyond all numbers": (lambda: _safetensors([1 << 62, 1 << 62, 0], b""), "x", _adapter),
    "statistics of single bytes": (lambda: _gram_of_bytes(9000), "x", _adapter),
    "lists in lists that say they are long": (lambda: (b"\xdd\x00\x1c\x00\x00" * 900).ljust(1_999_999), "x", _message),
    "a message above the limit": (lambda: b"\xc6\x7f\xff\xff\xff" + bytes(LIMIT_BYTES), "x", _message),
    "a manifest without end": (lambda: b"[" * 400_000, "x", lambda path: parse_manifest(path.read_bytes())),
    "TOML without end": (lambda: b"a = " + b"[" * 100_000, "x", read_toml),
    "an integer of many digits": (lambda: b"a = 0x" + b"f" * 200_000, "x", read_toml),
    "TOML of any size": (lambda: b"#" * (2 << 20), "x", read_toml),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_asks_for_much_gets_nothing(name: str, tmp_path: Path) -> None:
    """It is refused in one sentence, soon, and before memory is taken."""
    made, file, read = BOMBS[name]
    path = tmp_path / file
    path.write_bytes(made())
    before, begun = _high_water(reset=True), time.process_time()
    with pytest.raises(EdgequiltError, match="expected|cannot be used|is not"):
        read(path)
    assert time.process_time() - begun < TIME_S
    assert _high_water() - before < MEMORY_BYTES


def test_a_triangle_is_the_half_of_a_square() -> None:
    """The matrix that is made of a file row by row is the one that was written."""
    g = np.random.default_rng(1)
    half = g.standard_normal((7, 7))
    whole = half + half.T
    np.testing.assert_array_equal(square(triangle(whole), 7), whole)
    np.testing.assert_array_equal(triangle(whole), whole[np.triu_indices(7)])
    assert square(np.zeros(0), 0).shape == (0, 0)
    assert to_bytes(Adapter("toy"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", ".*.*.*x", "a" * 300])
def test_a_pattern_that_never_ends_is_not_tried(pattern: str) -> None:
    """Patterns of a stranger's PEFT folder are tried on names only where no name makes them slow."""
    assert not _is_tame(pattern)


# ------------------------------------------------------------------------------------------------ places


def _archive(file: Path, *, name: str = "hub.toml", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    data = b"x"
    parts = [{"name": n, "bytes": 1, "sha256": digest(data)} for n in ("hub.toml", "ledger.sqlite", name)]
    parts = list({p["name"]: p for p in parts}.values())
    index = {"format": FORMAT, "schema": SCHEMA, "fleet": "f", "at_s": 1.0, "keys": False, "parts": parts}
    with tarfile.open(file, "w") as out:
        for at, content in ((INDEX, json.dumps(index).encode()), (name, data)):
            member = tarfile.TarInfo(at)
            member.size = len(content)
            if at != INDEX:
                member.type, member.linkname = kind, link
                member.size = len(content) if kind == tarfile.REGTYPE else 0
            out.addfile(member, io.BytesIO(content) if member.size else None)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", ".hidden", "blobs/aa/../../../e"])
def test_a_backup_cannot_name_a_place_outside(name: str, tmp_path: Path) -> None:
    """Names that climb, begin at the root or hide are refused before a byte is written."""
    _archive(tmp_path / "x.tar", name=name)
    with pytest.raises(BadData, match="expected names of a hub's files"):
        unpack_backup(tmp_path / "x.tar", tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_backup_holds_files_alone(kind: bytes, tmp_path: Path) -> None:
    """A link, a device or a pipe in an archive is refused, whatever it points to."""
    _archive(tmp_path / "x.tar", kind=kind, link="/etc/passwd")
    with pytest.raises(BadData, match="expected only the files of its index"):
        unpack_backup(tmp_path / "x.tar", tmp_path / "in")


def test_a_backup_has_no_holes(tmp_path: Path) -> None:
    """A sparse member of a few bytes would become a file of any size."""
    size = 1 << 40
    parts = [{"name": n, "bytes": size, "sha256": "0" * 64} for n in ("hub.toml", "ledger.sqlite")]
    index = {"format": FORMAT, "schema": SCHEMA, "fleet": "f", "at_s": 1.0, "keys": False, "parts": parts}
    body, holes = json.dumps(index).encode(), b"1\n0\n0\n".ljust(512, b"\0")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as out:
        first, second = tarfile.TarInfo(INDEX), tarfile.TarInfo("hub.toml")
        first.size, second.size = len(body), len(holes)
        out.addfile(first, io.BytesIO(body))
        second.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "hub.toml",
            "GNU.sparse.realsize": str(size),
        }  # fmt: skip
        out.addfile(second, io.BytesIO(holes))
    with pytest.raises(BadData, match="expected only the files of its index"):
        unpack_backup(tmp_path / "x.tar", tmp_path / "in")
    assert not (tmp_path / "in" / "hub.toml").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "a\\..\\secret", ""])
def test_a_signed_manifest_cannot_name_a_place_outside(name: str, tmp_path: Path) -> None:
    """Even a publisher who is trusted reaches nothing outside of the bundle's folder."""
    key = new_key("publisher", "p")
    (tmp_path / "secret").write_bytes(b"x")
    files = {"segment0.forward.onnx": b"g", "segment0.weights.bin": b"w", "golden.safetensors": b"g", name: b"x"}
    folder = tmp_path / "bundle"
    folder.mkdir()
    body = manifest_bytes(manifest(files))
    for at in list(files)[:3]:
        (folder / at).write_bytes(files[at])
    (folder / "manifest.json").write_bytes(body)
    (folder / "manifest.sig").write_bytes(detached(key, body))
    with pytest.raises((IntegrityError, BadData)):
        open_bundle(folder, Trust([key.public]))


def test_a_link_in_a_bundle_is_what_its_digest_says(tmp_path: Path) -> None:
    """A symbolic link in place of a file gives nothing away and brings nothing in: the bytes must be those signed."""
    key = new_key("publisher", "p")
    files = {"segment0.forward.onnx": b"g", "segment0.weights.bin": b"w", "golden.safetensors": b"g"}
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "other").write_bytes(b"x")
    body = manifest_bytes(manifest(files))
    for at, data in files.items():
        (folder / at).write_bytes(data)
    (folder / "segment0.weights.bin").unlink()
    (folder / "segment0.weights.bin").symlink_to(tmp_path / "other")
    (folder / "manifest.json").write_bytes(body)
    (folder / "manifest.sig").write_bytes(detached(key, body))
    with pytest.raises(IntegrityError, match="has another SHA-256"):
        open_bundle(folder, Trust([key.public]))


NAMES = ("../x", "a/b", "+", "#", "a#", ".hidden", "", "A", "a\n", "a\0", "ä", "a" * 64, "$SYS", "HUB", " a", "a ")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_path_and_no_pattern(name: str) -> None:
    """A device cannot be called what means something to a file system or to a broker."""
    with pytest.raises(UsageError, match="expected a name"):
        topic_of("farm", "toy", "up", "hello", name)
    assert parse_topic(f"edgequilt/1/farm/toy/up/{name}/hello") is None


def test_text_without_end_is_no_reason_to_stop() -> None:
    """Nesting, NaN, numbers above all bounds and halves of characters end as what is no JSON."""
    for text in ("[" * 100_000, '{"a":' * 5000, "NaN", "[1e999]", '"\\ud800"', "[-Infinity]", "1" * 5000):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    assert parse_json('{"a": [1, "\\ud83d\\ude00"]}') == {"a": [1, "😀"]}
    with pytest.raises(BadData, match="expected m as MessagePack"):
        unseal(b"\x91" * 200 + b"\x00", "hub", Trust(), "m")
