"""An image onto a card or into a file: the first block last, so that what was interrupted never looks bootable."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from console.errors import IntegrityError, StorageError

BLOCK_BYTES = 4 << 20
HELD_BACK = 1 << 20  # partition table, boot code, the first file system's head
SYNC_BYTES = 64 << 20  # so that progress is what is on the card, not in memory
ALIGNED = 4096
HINTS = {errno.EBUSY: "unmount what is on it", errno.EACCES: "run it as root (sudo)"}
BLKGETSIZE64 = 0x80081272
BLKRRPART = 0x125F

Advance = Callable[[int], None]


@contextmanager
def opened(target: Path) -> Iterator[int]:
    """A card, for us alone, or a new file.

    Raises:
        StorageError: something of the card is in use, it is not there, or may not be written.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    # on Linux, a block device that is opened so is refused while anything of it is mounted (open(2))
    flags |= os.O_EXCL if is_device(target) else os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(target, flags, 0o600)
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "choose another target")
        raise StorageError(f"expected to write {target}, found: {error.strerror}; {hint}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_device(path: Path) -> bool:
    """Whether it is a block device."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def size_of(descriptor: int) -> int:
    """Bytes of an open block device."""
    answer = fcntl.ioctl(descriptor, BLKGETSIZE64, bytes(8))
    return int(struct.unpack("Q", answer)[0])


def write(image: Path, descriptor: int, advance: Advance = lambda size: None) -> tuple[list[str], str]:
    """Write all but the first block, which is zero until `finish`.

    Args:
        image: what to write.
        descriptor: of the target.
        advance: told of bytes that are on the target.

    Returns:
        The SHA-256 of each block of BLOCK_BYTES, the first one as it shall be, and of the whole.

    Raises:
        StorageError: the target takes no more.
    """
    sums, since, whole = list[str](), 0, hashlib.sha256()
    try:
        os.pwrite(descriptor, bytes(HELD_BACK), 0)
        os.fsync(descriptor)
        with image.open("rb") as file:
            offset = 0
            while block := file.read(BLOCK_BYTES):
                sums.append(hashlib.sha256(block).hexdigest())
                whole.update(block)
                first = HELD_BACK if offset == 0 else 0
                _all(descriptor, block[first:], offset + first)
                offset, since = offset + len(block), since + len(block)
                if since >= SYNC_BYTES:
                    os.fsync(descriptor)
                    since = 0
                advance(len(block))
        os.fsync(descriptor)
    except OSError as error:
        raise StorageError(
            f"expected to write, stopped: {error.strerror}; the card is not bootable, try another"
        ) from error
    return sums, whole.hexdigest()


def finish(image: Path, descriptor: int) -> None:
    """Write the first block: now it is a card that boots.

    Raises:
        StorageError: the target does not take it.
    """
    try:
        with image.open("rb") as file:
            _all(descriptor, file.read(HELD_BACK), 0)
        os.fsync(descriptor)
        with suppress(OSError):  # a file has no partitions that the kernel knows
            fcntl.ioctl(descriptor, BLKRRPART)
    except OSError as error:
        raise StorageError(f"expected to write the first block, stopped: {error.strerror}; try another card") from error


def verify(target: Path, sums: list[str], size: int, advance: Advance = lambda size: None, *, first: bool) -> None:
    """Read everything back from the medium and compare.

    Args:
        target: what was written.
        sums: of its blocks.
        size: bytes of the image.
        advance: told of bytes that are as they should be.
        first: whether the first block is there by now; else the block that holds it is left out.

    Raises:
        IntegrityError: a block is another one.
        StorageError: it cannot be read.
    """
    try:
        for index, block in enumerate(_blocks(target, size)):
            if (index or first) and hashlib.sha256(block).hexdigest() != sums[index]:
                at = index * BLOCK_BYTES
                raise IntegrityError(
                    f"expected what was written at byte {at} of {target}, read something else; the card is worn or not "
                    "what it says: try another"
                )
            advance(len(block))
    except OSError as error:
        raise StorageError(f"expected to read {target} back, stopped: {error.strerror}; try another card") from error


def _blocks(target: Path, size: int) -> Iterator[memoryview]:
    """Past the cache, where the file system lets us."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        descriptor = os.open(target, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = mmap.mmap(-1, BLOCK_BYTES)  # pages: aligned, as O_DIRECT wants it
    try:
        for offset in range(0, size, BLOCK_BYTES):
            wanted, found = min(BLOCK_BYTES, size - offset), 0
            room = -(-wanted // ALIGNED) * ALIGNED
            view = memoryview(buffer)
            while found < wanted:
                count = os.preadv(descriptor, [view[found:room]], offset + found)
                if count == 0:
                    break
                found += count
            yield view[: min(found, wanted)]
    finally:
        os.close(descriptor)


def _all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
