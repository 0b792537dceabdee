"""A split that depends on the sample alone: the same in every run, on every machine, in every order."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "test")


def fraction_of(content: str | bytes) -> float:
    """A number in [0, 1) for any content: the first six bytes of its SHA-256 over 2**48, exact in a float.

    >>> round(fraction_of(""), 6)
    0.889416
    """
    data = content.encode() if isinstance(content, str) else content
    return float(int.from_bytes(hashlib.sha256(data).digest()[:6], "big") / 2**48)


def split_of(content: str | bytes, test_fraction: float) -> str:
    """`"test"` for a fixed share of all contents, `"train"` for the others."""
    return "test" if fraction_of(content) < test_fraction else "train"


def shuffle_key(content: str | bytes, seed: int) -> bytes:
    """A sort key that shuffles contents by a seed, independently of their split."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(b"%d:" % seed + data).digest()
