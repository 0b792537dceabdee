"""A child process that trains: it makes a step whenever it is told to, and says how long that took.

All variants are alive at once and step in turns, so that what else the machine does meets all of them alike. Memory is
taken in processes of their own, since following it costs time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from export.peak import Sampler, status_bytes

STEPS = 4  # of a process whose memory is taken
Step = Callable[[], float]  # one step; its mean loss


def serve(made: Callable[[], Step], *, memory: bool) -> None:
    """Answer on stdout; begin when everything is imported.

    Args:
        made: loads the model.
        memory: take the memory of some steps, else make a step for every line of stdin.
    """
    if memory:
        _say(_memory(made))
        return
    step = made()
    _say({"ready": True})
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        loss = step()
        _say({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor, "loss": loss})


def _memory(made: Callable[[], Step]) -> dict[str, Any]:
    found = {"base_bytes": status_bytes("VmHWM"), "base_anon_bytes": status_bytes("RssAnon")}
    sampler = Sampler()
    sampler.start()
    step = made()
    losses = [step() for _ in range(STEPS)]
    sampler.stop()
    peak = {"peak_bytes": status_bytes("VmHWM"), "peak_anon_bytes": sampler.peak_bytes}
    return {**found, **peak, "losses": losses}


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)
