"""Packed releases: what goes in comes out, and what was not signed does not."""

from __future__ import annotations

import io
import random
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, IntegrityError
from wire.files import digest
from wire.packed import LAST, STREAM, Packed, Part, differing, pack, parse, to_bytes, unpack

FILES = {"lib/a.py": b"print()\n", "lib/empty": b"", "lib/b/large": random.Random(1).randbytes(700_000), LAST: b"{}"}


def packed_of(folder: Path, files: dict[str, bytes]) -> Packed:
    """A manifest, with its stream in a folder."""
    size, found = pack([lambda data=data: io.BytesIO(data) for data in files.values()], folder / STREAM)  # type: ignore[misc]
    parts = tuple(Part(path, len(data), digest(data)) for path, data in files.items())
    return Packed("0.1.0+1f3c9a40", "3.11", "2.36", "aarch64", size, found, parts)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """All files with their modes, the manifest as the same bytes, and nothing differs."""
    packed = packed_of(tmp_path, FILES)
    packed = replace(packed, files=(replace(packed.files[0], mode=0o755), *packed.files[1:]))
    assert to_bytes(parse(to_bytes(packed))) == to_bytes(packed)
    told: list[int] = []
    unpack(tmp_path / STREAM, packed, tmp_path / "out", told.append)
    found = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert found["lib/a.py"].stat().st_mode & 0o777 == 0o755
    assert sum(told) == packed.bytes == sum(map(len, FILES.values()))
    assert not list(differing(tmp_path / "out", packed))
    (tmp_path / "out" / "lib" / "empty").write_bytes(b"x")
    assert list(differing(tmp_path / "out", packed)) == ["lib/empty"]


WRONG: dict[str, Any] = {
    "a byte is another": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    "a byte is absent": lambda data: data[:-1],
    "there is one more": lambda data: data + b"x",
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_stream_holds_what_its_manifest_lists(wrong: str, tmp_path: Path) -> None:
    """Other bytes, fewer or more are refused."""
    packed = packed_of(tmp_path, FILES)
    (tmp_path / STREAM).write_bytes(zlib.compress(WRONG[wrong](b"".join(FILES.values()))))
    with pytest.raises(IntegrityError):
        unpack(tmp_path / STREAM, packed, tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 5, 1000])
def test_a_stream_that_was_cut_is_none(cut: int, tmp_path: Path) -> None:
    """However much of it lacks, or if it is none at all."""
    packed = packed_of(tmp_path, FILES)
    (tmp_path / STREAM).write_bytes((tmp_path / STREAM).read_bytes()[:-cut] if cut else b"no stream")
    with pytest.raises(IntegrityError):
        unpack(tmp_path / STREAM, packed, tmp_path / "out")


def test_a_stream_is_unpacked_no_further_than_the_manifest_says(tmp_path: Path) -> None:
    """64 MiB of zeros in 64 KiB: what is written is what was signed."""
    packed = packed_of(tmp_path, {LAST: b"{}"})
    bomb = zlib.compressobj(9)
    with (tmp_path / STREAM).open("wb") as out:
        for _ in range(64):
            out.write(bomb.compress(bytes(1 << 20)))
        out.write(bomb.flush())
    with pytest.raises(IntegrityError):
        unpack(tmp_path / STREAM, packed, tmp_path / "out")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 2


PLACES = ["../x", "/etc/passwd", "lib/../../x", "lib//a", "./a", "lib/a/", "a\\b", "", "a\0b", "lib/a.py", "lib/a.py/b"]


@pytest.mark.parametrize("place", PLACES)
def test_a_manifest_names_places_in_the_release_alone(place: str, tmp_path: Path) -> None:
    """Places outside, names that mean the same, a name twice, and a file that is a folder as well are refused."""
    packed = packed_of(tmp_path, FILES)
    wrong = replace(packed, files=(packed.files[0], Part(place, 0, digest(b"")), packed.files[-1]))
    with pytest.raises(BadData):
        parse(to_bytes(wrong))


@pytest.mark.parametrize(
    "change",
    [
        {"version": "../../x"},
        {"version": ".coming-1"},
        {"files": ()},
        {"files": (Part("lib/a", 1, "0" * 64),)},
        {"files": (Part("lib/a", 4 << 30, "0" * 64), Part(LAST, 2, "0" * 64))},
        {"files": (Part(LAST, 2, "0" * 64, 0o4755),)},
        {"schema": 2},
    ],
)
def test_a_manifest_that_cannot_be_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """A version that is no name, no files, no last file, too much, a mode that gives rights, another schema."""
    with pytest.raises(BadData):
        parse(to_bytes(replace(packed_of(tmp_path, FILES), **change)))
