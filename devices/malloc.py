"""The C library's malloc, told to give large buffers back: what a session without an arena needs of its process."""

from __future__ import annotations

import contextlib
import ctypes

MAPPED_FROM_BYTES = 128 * 1024
_M_MMAP_THRESHOLD = -3  # mallopt(3)


def map_large_buffers() -> None:
    """Have every buffer from 128 KiB on be a mapping of its own, which is gone when it is freed.

    glibc would raise that limit to the size of the first large buffer that is freed, and keep all later ones in
    one heap, where they fragment: a small convolutional net then grew by its largest activation with every run
    (`python -m bench.memory` shows the peaks). Of this process, for good; other C libraries have no such limit.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
