"""Pauses between attempts, so that fleets do not march in step.

Full jitter (Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random

_SHARED = random.Random()  # noqa: S311  # not a secret


def full_jitter(attempt: int, first_s: float, last_s: float, source: random.Random = _SHARED) -> float:
    """Seconds to wait before another attempt, uniform below a limit that doubles with each."""
    return source.uniform(0, min(last_s, first_s * 2.0 ** min(attempt, 20)))
