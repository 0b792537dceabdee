"""An image onto a card or into a file: the first block last, so that what was interrupted never looks bootable."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from console.errors import IntegrityError, StorageError

BLOCK_BYTES = 4 << 20
AHEAD = 2  # blocks that wait to be hashed
HELD_BACK = 1 << 20  # partition table, boot code, the first file system's head
SYNC_BYTES = 64 << 20  # so that progress is what is on the card, not in memory
ALIGNED = 4096  # of memory and length, for O_DIRECT
HINTS = {errno.EBUSY: "unmount what is on it", errno.EACCES: "run it as root (sudo)"}
BLKRRPART = 0x125F
BLKGETDISKSEQ = 0x80081280

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


def size_of(descriptor: int) -> int:
    """Bytes of an open card or file."""
    return os.lseek(descriptor, 0, os.SEEK_END)


def sequence_of(descriptor: int) -> int | None:
    """The kernel's number of the medium in an open card; None where it knows none (before Linux 5.15, or a file)."""
    found = bytearray(8)
    try:
        fcntl.ioctl(descriptor, BLKGETDISKSEQ, found)
    except OSError:
        return None
    return int.from_bytes(found, sys.byteorder)


def is_device(path: Path) -> bool:
    """Whether it is a block device."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def write(image: Path, descriptor: int, advance: Advance = lambda size: None) -> None:
    """Write all but the first MiB, which is zero until `finish`.

    The zeros come first, and are on the medium before anything else is: a target that is cut off has no partition
    table. Then past the cache, where the target lets us: what `advance` hears of is on its way to the medium, and the
    image stays in memory, where reading back finds it.

    Args:
        image: what to write.
        descriptor: of the target.
        advance: told of bytes that are on the target.

    Raises:
        StorageError: the target takes no more.
    """
    since, size, offset = 0, image.stat().st_size, 0
    block = memoryview(mmap.mmap(-1, BLOCK_BYTES))  # pages: aligned, as O_DIRECT wants it
    try:
        _direct(descriptor, wanted=False)
        _all(descriptor, memoryview(bytes(min(HELD_BACK, size))), 0)
        os.fsync(descriptor)
        direct = _direct(descriptor, wanted=True)
        with image.open("rb", buffering=0) as file:
            while offset < size:
                # a target may ask for whole blocks of 4 KiB; the image has whole ones of 512 bytes
                count = _filled(file, block)
                if count % ALIGNED:
                    direct = _direct(descriptor, wanted=False)
                _ahead(file.fileno(), offset + count)
                if offset == 0:
                    block[:HELD_BACK] = bytes(HELD_BACK)
                _all(descriptor, block[:count], offset)
                offset, since = offset + count, since + count
                if since >= SYNC_BYTES and not direct:
                    os.fsync(descriptor)
                    since = 0
                advance(count)
        _direct(descriptor, wanted=False)
        os.fsync(descriptor)
    except OSError as error:
        raise StorageError(
            f"expected to write, stopped: {error.strerror}; the card is not bootable, try another"
        ) from error


def finish(image: Path, descriptor: int) -> None:
    """Write the first MiB: now it is a card that boots.

    Raises:
        StorageError: the target does not take it.
    """
    try:
        with image.open("rb") as file:
            _all(descriptor, memoryview(file.read(HELD_BACK)), 0)
        os.fsync(descriptor)
        with suppress(OSError):  # a file has no partitions that the kernel knows
            fcntl.ioctl(descriptor, BLKRRPART)
    except OSError as error:
        raise StorageError(f"expected to write the first block, stopped: {error.strerror}; try another card") from error


def blank(descriptor: int) -> None:
    """Take the first block away again, as far as the target lets us: it does not boot."""
    with suppress(OSError):
        _all(descriptor, memoryview(bytes(HELD_BACK)), 0)
        os.fsync(descriptor)


def verify(image: Path, target: Path, advance: Advance = lambda size: None) -> str:
    """Read everything back from the medium, but for the first MiB, and compare; returns the SHA-256 of the image.

    Args:
        image: what was written.
        target: where to.
        advance: told of bytes that are as they should be.

    Raises:
        IntegrityError: a block is another one.
        StorageError: it cannot be read.
    """
    whole, pending = hashlib.sha256(), list[Future[None]]()
    with ThreadPoolExecutor(1) as beside:  # hashing lets other threads run
        for expected in _compared(image, target, HELD_BACK, image.stat().st_size):
            pending.append(beside.submit(whole.update, expected))
            if len(pending) > AHEAD:
                pending.pop(0).result()
            advance(len(expected))
    return whole.hexdigest()


def verify_first(image: Path, target: Path) -> None:
    """The same for the first MiB, once it is written.

    Raises:
        IntegrityError, StorageError: see `verify`.
    """
    for _ in _compared(image, target, 0, min(HELD_BACK, image.stat().st_size)):
        pass


def _compared(image: Path, target: Path, skipped: int, size: int) -> Iterator[bytes]:
    """Blocks of the image that are on the target."""
    try:
        with image.open("rb", buffering=0) as file:
            for offset, found in _blocks(target, size):
                expected = os.pread(file.fileno(), min(BLOCK_BYTES, size - offset), offset)
                _ahead(file.fileno(), offset + BLOCK_BYTES)
                left = max(0, skipped - offset)
                if bytes(found[left:]) != expected[left:]:
                    raise IntegrityError(
                        f"expected what was written at byte {offset} of {target}, read something else; the card is "
                        "worn or not what it says: try another"
                    )
                yield expected
    except OSError as error:
        raise StorageError(f"expected to read {target} back, stopped: {error.strerror}; try another card") from error


def _blocks(target: Path, size: int) -> Iterator[tuple[int, memoryview]]:
    """Past the cache, where the file system lets us."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    view = memoryview(mmap.mmap(-1, BLOCK_BYTES))
    try:
        for offset in range(0, size, BLOCK_BYTES):
            wanted, found = min(BLOCK_BYTES, size - offset), 0
            room = -(-wanted // ALIGNED) * ALIGNED
            while found < wanted:
                count = os.preadv(descriptor, [view[found:room]], offset + found)
                if count == 0:
                    break
                found += count
            yield offset, view[: min(found, wanted)]
    finally:
        os.close(descriptor)


def _direct(descriptor: int, *, wanted: bool) -> bool:
    """Turn writing past the cache on or off; whether it is on, which a file system may refuse."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return wanted


def _ahead(descriptor: int, offset: int) -> None:
    """Let the system fetch the next block of the image meanwhile."""
    os.posix_fadvise(descriptor, offset, BLOCK_BYTES, os.POSIX_FADV_WILLNEED)


def _filled(file: FileIO, block: memoryview) -> int:
    """Bytes of the next block: a whole one but for the last."""
    count = 0
    while count < len(block) and (more := file.readinto(block[count:])):
        count += more
    return count


def _all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, offset)
        data, offset = data[done:], offset + done
