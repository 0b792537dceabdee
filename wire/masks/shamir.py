"""Shamir's secret sharing (Adi Shamir, "How to share a secret", Communications of the ACM 22(11), 1979).

A secret is the value at 0 of a random polynomial of degree t - 1 over a prime field, shares are its values at 1, 2,
...: any t of them give it back by Lagrange's formula, fewer say nothing of it. Secrets are 32 bytes, so the field is
that of the smallest prime above 2^256, and a share has 33 bytes.

Own lines rather than a library: PyCryptodome's shares are of 16 bytes, and it would be a second library of ciphers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from secrets import randbelow

from console.errors import BadData

PRIME = 2**256 + 297
SECRET_BYTES, SHARE_BYTES = 32, 33


def split(secret: bytes, threshold: int, count: int, below: Callable[[int], int] = randbelow) -> list[bytes]:
    """The shares of a secret, those of 1 to count.

    Args:
        secret: 32 bytes.
        threshold: how many shares give it back, from 1 to count.
        count: how many there are.
        below: draws an integer from 0 to its argument, exclusive.

    Raises:
        ValueError: the threshold or the secret is out of range.
    """
    if not 1 <= threshold <= count or len(secret) != SECRET_BYTES:
        raise ValueError(f"expected 32 bytes and 1 <= threshold <= count, found {len(secret)}, {threshold}, {count}")
    coefficients = [int.from_bytes(secret, "big"), *(below(PRIME) for _ in range(threshold - 1))]
    return [_at(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, count + 1)]


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from as many shares as its threshold or more, by their places from 1 on.

    Raises:
        BadData: they are not shares, or not of one secret of 32 bytes.

    >>> shares = split(bytes(range(32)), 2, 3)
    >>> join({1: shares[0], 3: shares[2]}) == bytes(range(32))
    True
    """
    values = {x: int.from_bytes(share, "big") for x, share in shares.items()}
    wrong = [x for x, share in shares.items() if x < 1 or len(share) != SHARE_BYTES or values[x] >= PRIME]
    if wrong or not shares:
        raise BadData(f"expected shares of {SHARE_BYTES} bytes each, found others (places {wrong})")
    places = tuple(sorted(values))
    secret = sum(values[x] * weight for x, weight in zip(places, _weights(places), strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise BadData("expected shares of one secret, found that they do not belong together")
    return secret.to_bytes(SECRET_BYTES, "big")


def _at(coefficients: list[int], x: int) -> int:
    """The polynomial's value (Horner)."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


@lru_cache(maxsize=4)
def _weights(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights of some places, for the value at 0; many secrets are shared out over the same ones."""
    found = []
    for x in places:
        above = below = 1
        for other in places:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)
