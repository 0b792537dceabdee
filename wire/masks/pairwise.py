"""Masks of pairs of boards, which cancel in the sum.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, section 4.

    y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)    (modulo 2^64)

The generator is ChaCha20 (RFC 8439) with a seed as key; a seed is used once, so the nonce is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from wire.masks.fixed_point import Words

BLOCK = 1 << 16  # numbers of each mask in memory at once


def add(words: Words, plus: Iterable[bytes], minus: Iterable[bytes]) -> Words:
    """A vector with the masks of some seeds added and those of others taken away, in place; the same vector."""
    added, taken = [_blocks(seed, len(words)) for seed in plus], [_blocks(seed, len(words)) for seed in minus]
    for start in range(0, len(words), BLOCK):
        part = words[start : start + BLOCK]
        for stream in added:
            part += next(stream)
        for stream in taken:
            part -= next(stream)
    return words


def _blocks(seed: bytes, size: int) -> Iterator[Words]:
    """The mask of a seed, block after block."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    cipher: Any = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        yield np.frombuffer(cipher.update(bytes(8 * count)), "<u8")
