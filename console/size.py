"""Sizes as people write them."""

from __future__ import annotations

import re

from console.errors import UsageError

UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


def size_bytes(text: str) -> int:
    """A size in bytes.

    >>> size_bytes("200MiB"), size_bytes("1.5 GB"), size_bytes("4096")
    (209715200, 1500000000, 4096)

    Raises:
        UsageError: it is not one.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"expected a size such as 200MiB, 1.5GB or 209715200, found {text!r}")
    return int(float(match[1]) * UNITS[(match[2] or "").lower()])
