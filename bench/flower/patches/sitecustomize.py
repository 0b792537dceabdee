"""What some arms change in Flower, before it is imported: how long its loops sleep, and when its database is synced.

BENCH_POLL_S: no sleep of Flower's own modules is longer. BENCH_SYNCHRONOUS: SQLite's `synchronous`.
"""

from __future__ import annotations

import inspect
import os
import time

if "BENCH_POLL_S" in os.environ:
    _limit, _sleep = float(os.environ["BENCH_POLL_S"]), time.sleep

    def _shorter(seconds: float) -> None:
        flower = str(inspect.currentframe().f_back.f_globals.get("__name__", "")).startswith("flwr.")
        _sleep(min(seconds, _limit) if flower else seconds)

    time.sleep = _shorter

if "BENCH_SYNCHRONOUS" in os.environ:
    import flwr.supercore.constant as _constant

    _told = dict(_constant.SQLITE_PRAGMAS)
    _told["synchronous"] = os.environ["BENCH_SYNCHRONOUS"]
    _constant.SQLITE_PRAGMAS = tuple(_told.items())
