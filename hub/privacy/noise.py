"""Gaussian noise from a secret that is in the journal before it is used.

The same secret and the same updates give the same noise, so a hub that was killed publishes the version that it would
have published; other updates (a hub that goes on from an old backup) give other noise, or the difference of both
versions would show what the updates differ by. Bits come from ChaCha20 (RFC 8439). A normal number is the sum of four,
divided by 2, each by Box and Muller's transform: with several one cannot tell from the rounding of a float what went
in (Holohan and Braghin, "Secure Random Sampling in Differential Privacy", arXiv 2107.10138, section 4).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from hub.aggregation.method import Array

SECRET_BYTES = 32
PARTS = 4  # normal numbers that make one


def new_secret() -> str:
    """A secret for one round, hexadecimal, from the operating system."""
    return secrets.token_hex(SECRET_BYTES)


@dataclass(frozen=True)
class Noise:
    """The noise of one version."""

    key: bytes
    deviation: float

    def normal(self, name: str, shape: tuple[int, ...]) -> Array:
        """Independent normal numbers for something that is published, by its name."""
        count = int(np.prod(shape, dtype=np.int64))
        drawn = _normal(hmac.digest(self.key, name.encode(), "sha256"), PARTS * count)
        numbers: Array = self.deviation / PARTS**0.5 * drawn.reshape(PARTS, count).sum(axis=0)
        return numbers.reshape(shape)


def noise_of(secret: str, digests: Sequence[str], deviation: float) -> Noise:
    """The noise of a round over these updates and no others.

    >>> noise_of("00" * 32, ["a"], 1.0) == noise_of("00" * 32, ["b"], 1.0)
    False
    """
    bound = hashlib.sha256("\0".join(digests).encode()).digest()
    return Noise(hmac.digest(bytes.fromhex(secret), bound, "sha256"), deviation)


def _normal(key: bytes, count: int) -> Array:
    pairs = -(-count // 2)
    raw = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(16 * pairs))
    uniform = _uniform(np.frombuffer(raw, "<u8"))
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.asarray(np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count], np.float64)


def _uniform(words: NDArray[np.uint64]) -> Array:
    """Numbers between 0 and 1, neither of them."""
    return np.asarray(((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)
