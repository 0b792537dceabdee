"""Whether a clock can be right at all. A board without one wakes in the past; a broken one may show any year.

Such a clock must neither shut a board out of its fleet nor decide when its certificate is renewed.
"""

from __future__ import annotations

import time

BUILT_S = 1_793_491_200.0  # 2026-11-01: no clock that is right shows less
BELIEVED_S = 20 * 365 * 86400.0  # nor more than so much later


def plausible(now_s: float | None = None, floor_s: float = BUILT_S) -> bool:
    """Whether a clock's time (seconds since 1970; the system's if not given) can be right.

    Args:
        now_s: what it shows.
        floor_s: a time that has certainly been.

    >>> plausible(10.0), plausible(BUILT_S + 86400), plausible(BUILT_S + 1e10)
    (False, True, False)
    """
    now = time.time() if now_s is None else now_s
    return max(BUILT_S, floor_s) <= now <= BUILT_S + BELIEVED_S
