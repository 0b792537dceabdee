"""How people write a length of time: a number and a letter."""

from __future__ import annotations

import re

from console.errors import UsageError

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Seconds of `30s`, `10m`, `12h` or `7d`.

    >>> seconds("1.5h")
    5400.0

    Raises:
        UsageError: it is none of them.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise UsageError(f"expected a length of time like 30s, 10m, 12h or 7d, found {text!r}")
    return float(found[1]) * UNITS_S[found[2]]


def words(value_s: float) -> str:
    """The same the other way round, in the largest unit of which there is one at least.

    >>> words(90000), words(59), words(-30)
    ('25h', '59s', '0s')
    """
    value = max(0.0, value_s)
    unit = next((u for u in ("d", "h", "m") if value >= 2 * UNITS_S[u]), "s")
    return f"{value // UNITS_S[unit]:.0f}{unit}"
