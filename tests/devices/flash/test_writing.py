"""What is written is on the target, what was cut off does not look bootable, and what differs is found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from console.errors import IntegrityError, StorageError
from console.progress import progress
from devices.flash import writing
from devices.flash.flashing import Watch, _write

SIZES = (512, writing.HELD_BACK, writing.BLOCK_BYTES, 2 * writing.BLOCK_BYTES + 512 * 3)


def made(folder: Path, size: int) -> Path:
    """An image of bytes that are nowhere the same."""
    image = folder / "image"
    image.write_bytes(os.urandom(size))
    return image


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_all_of_it_arrives(size: int, where: str, tmp_path: Path) -> None:
    """Byte by byte, for sizes that are no whole blocks, too, and on a file system that knows no direct writes."""
    image = made(tmp_path, size)
    target = tmp_path / "target" if where == "disk" else Path(f"/dev/shm/edgequilt-{os.getpid()}-{size}")
    told: list[int] = []
    try:
        with writing.opened(target) as descriptor:
            writing.write(image, descriptor, told.append)
            assert not any(target.read_bytes()[: writing.HELD_BACK])
            assert writing.verify(image, target, told.append) == hashlib.sha256(image.read_bytes()).hexdigest()
            writing.finish(image, descriptor)
            writing.verify_first(image, target)
        assert target.read_bytes() == image.read_bytes()
        assert sum(told) == 2 * size
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize("at", [writing.HELD_BACK, writing.BLOCK_BYTES + 7, 2 * writing.BLOCK_BYTES + 1535])
def test_a_byte_that_differs_is_found(at: int, tmp_path: Path) -> None:
    """Directly behind the first MiB, in the middle, and the very last one; the block is named."""
    image, target = made(tmp_path, SIZES[-1]), tmp_path / "target"
    with writing.opened(target) as descriptor:
        writing.write(image, descriptor)
        os.pwrite(descriptor, bytes([target.read_bytes()[at] ^ 1]), at)
        block = at // writing.BLOCK_BYTES * writing.BLOCK_BYTES
        with pytest.raises(IntegrityError, match=f"written at byte {block} of"):
            writing.verify(image, target)


def test_a_short_card_is_found(tmp_path: Path) -> None:
    """One that swallows its end."""
    image, target = made(tmp_path, SIZES[-1]), tmp_path / "target"
    with writing.opened(target) as descriptor:
        writing.write(image, descriptor)
        os.ftruncate(descriptor, SIZES[-1] - 512)
        with pytest.raises(IntegrityError, match="try another"):
            writing.verify(image, target)


def test_the_first_mebibyte_is_compared_too(tmp_path: Path) -> None:
    """A byte of it that differs is found once it is written."""
    image, target = made(tmp_path, SIZES[-1]), tmp_path / "target"
    with writing.opened(target) as descriptor:
        writing.write(image, descriptor)
        writing.finish(image, descriptor)
        os.pwrite(descriptor, bytes([target.read_bytes()[3] ^ 1]), 3)
        with pytest.raises(IntegrityError):
            writing.verify_first(image, target)


def test_a_full_target_is_said(tmp_path: Path) -> None:
    """No room: a sentence, and no traceback."""
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(StorageError, match="No space left"):
        writing.write(made(tmp_path, 512), full.fileno())


def test_a_card_that_ends_wrong_does_not_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first block is not what was written, it is taken away again."""
    image, target = tmp_path / "image", tmp_path / "card"
    image.write_bytes(os.urandom(6 << 20))

    def wrong(image: Path, target: Path) -> None:
        assert target.read_bytes() == image.read_bytes()
        raise IntegrityError("the first block is another one")

    monkeypatch.setattr(writing, "verify_first", wrong)
    with pytest.raises(IntegrityError), progress("writing", quiet=True) as bar:
        _write(image, target, Watch(), bar)
    assert target.read_bytes()[: writing.HELD_BACK] == bytes(writing.HELD_BACK)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_the_beginning_is_gone_before_the_rest_comes(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the medium, not in a cache: its zeros are synced before anything behind them is written."""
    image, calls = made(tmp_path, SIZES[-1]), list[tuple[str, int]]()
    target = tmp_path / "target" if where == "disk" else Path(f"/dev/shm/edgequilt-{os.getpid()}-zeros")
    pwrite, fsync = os.pwrite, os.fsync

    def noted(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(("write", offset + len(data)))
        return pwrite(descriptor, data, offset)

    def synced(descriptor: int) -> None:
        assert where == "disk" or not any(target.read_bytes()[: writing.HELD_BACK])
        calls.append(("sync", 0))
        fsync(descriptor)

    monkeypatch.setattr(os, "pwrite", noted)
    monkeypatch.setattr(os, "fsync", synced)
    try:
        with writing.opened(target) as descriptor:
            writing.write(image, descriptor)
    finally:
        target.unlink(missing_ok=True)
    assert calls[:2] == [("write", writing.HELD_BACK), ("sync", 0)]
    assert calls[-1] == ("sync", 0)
    assert max(end for _, end in calls) == SIZES[-1]
