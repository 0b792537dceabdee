"""Images of every packing become the same sparse file; what is cut short, whatever packs it, is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from console.errors import BadData, IntegrityError
from devices.flash.limit import Limit
from devices.flash.staging import size_of, stage

LIMIT = Limit(64 << 20)
RAW = os.urandom(3 << 20) + bytes(6 << 20) + os.urandom(1 << 20)


def zstd(data: bytes) -> bytes:
    """Packed by zstandard, where that is installed."""
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(data))


def zipped(data: bytes, *names: str) -> bytes:
    """An archive of images."""
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("sd-blob.img", "readme.txt"):
            archive.writestr(name, data if name.endswith(".img") else b"read me")
    return out.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "xz": lambda data: lzma.compress(data, preset=0),
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": bz2.compress,
    "zst": zstd,
    "zip": zipped,
}
IN_STREAMS = [name for name in PACKINGS if name not in ("raw", "zip")]


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_becomes_the_same_bytes(name: str, tmp_path: Path) -> None:
    """With holes where there are zeros, and the digest of the file as it was given."""
    image = tmp_path / "image"
    image.write_bytes(PACKINGS[name](RAW))
    found = stage(image, tmp_path / "out", LIMIT)
    assert found.path.read_bytes() == RAW
    assert (found.size_bytes, found.sha256) == (len(RAW), hashlib.sha256(image.read_bytes()).hexdigest())
    assert found.path.stat().st_blocks * 512 < len(RAW) - (4 << 20)


@pytest.mark.parametrize("name", IN_STREAMS)
def test_streams_in_a_row_are_one_image(name: str, tmp_path: Path) -> None:
    """As tools that pack in parallel write them."""
    image, half = tmp_path / "image", len(RAW) // 2 // 512 * 512
    image.write_bytes(PACKINGS[name](RAW[:half]) + PACKINGS[name](RAW[half:]))
    assert stage(image, tmp_path / "out", LIMIT).path.read_bytes() == RAW


@pytest.mark.parametrize("name", [*IN_STREAMS, "zip"])
@pytest.mark.parametrize("lost", [1, 1000])
def test_what_is_cut_short_is_refused(name: str, lost: int, tmp_path: Path) -> None:
    """A card of half an image would be compared with that half, and be found right."""
    image = tmp_path / "image"
    image.write_bytes(PACKINGS[name](RAW)[:-lost])
    with pytest.raises(IntegrityError, match="a damaged one"):
        stage(image, tmp_path / "out", LIMIT)


def test_an_xz_file_says_how_much_it_becomes(tmp_path: Path) -> None:
    """The sum over its streams, as xz --list counts it; one that is too short for an index says nothing."""
    image = tmp_path / "image.xz"
    image.write_bytes(PACKINGS["xz"](RAW) + PACKINGS["xz"](RAW[:4096]))
    assert size_of(image) == len(RAW) + 4096
    if shutil.which("xz"):
        told = subprocess.run(["xz", "--robot", "--list", image], capture_output=True, text=True, check=True).stdout
        totals = next(line.split() for line in told.splitlines() if line.startswith("totals"))
        assert int(totals[4]) == len(RAW) + 4096
    for size in (6, 10, 16, 24, 30):
        image.write_bytes((PACKINGS["xz"](RAW))[:size])
        assert size_of(image) is None
        image.write_bytes(b"\xfd7zXZ\x00" + bytes(size) + b"\xff\xff\xff\xff\x00\x00YZ")
        assert size_of(image) is None


def test_an_archive_of_two_images_is_refused(tmp_path: Path) -> None:
    """Nobody guesses which one is meant."""
    image = tmp_path / "image.zip"
    image.write_bytes(zipped(RAW[:4096], "a.img", "b.img"))
    with pytest.raises(BadData, match="expected one image in the archive, found 2"):
        stage(image, tmp_path / "out", LIMIT)
