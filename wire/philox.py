"""Directions that two machines rebuild bit for bit: signs from raw Philox4x64-10 output.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). numpy promises the raw
stream of a bit generator for all versions, not what it makes of it; so the specification is the raw 64-bit
words (docs/adapter.md, "Directions"). Word i of a stream gives signs 64 i to 64 i + 63, least significant bit
first; bit 1 is +1, bit 0 is -1.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 64


def key_of(*parts: str | int) -> int:
    """A 128-bit Philox key from names and numbers: the first 16 bytes of SHA-256, little-endian.

    >>> key_of("fleet", 1) == key_of("fleet", 1) != key_of("fleet", 2)
    True
    """
    text = "\0".join(str(p) for p in parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "little")


def words(key: int, counter: int, count: int) -> NDArray[np.uint64]:
    """`count` raw words of the stream (key, counter): uint64 [count]."""
    generator = np.random.Philox(key=key, counter=counter << 64)
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def signs(key: int, counter: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Rademacher direction: float32 of the given shape, each entry -1 or +1.

    >>> signs(7, 0, (2, 3)).shape
    (2, 3)
    """
    size = int(np.prod(shape, dtype=np.int64))
    raw = words(key, counter, -(-size // WORD_BITS)).astype("<u8").view(np.uint8)
    bits = np.unpackbits(raw, bitorder="little")[:size]
    return (bits.astype(np.float32) * 2 - 1).reshape(shape)


def replay(key: int, scalars: list[tuple[int, float]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The sum of scalar x direction over (counter, scalar) pairs, in the order given: float32 of `shape`.

    The order and the float32 arithmetic are part of the specification: both sides get the same bits.
    """
    total = np.zeros(shape, dtype=np.float32)
    for counter, scalar in scalars:
        total += np.float32(scalar) * signs(key, counter, shape)
    return total
