"""Bent inputs through a door, and what it makes of them.

A crash is anything but a subclass of EdgequiltError, or an accepted input that reads otherwise once it was written. A
hang is more than a second of the processor for an input; after a minute by the clock an alarm ends it, where Python
still runs. Memory is how far the process's high-water mark rises above where it was before the input
(`/proc/self/clear_refs`, Linux).
"""

from __future__ import annotations

import hashlib
import logging
import random
import resource
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from tests.fuzz.decoder import Case, Decoder
from tests.fuzz.mutate import bent_bytes, spliced

HANG_S, ALARM_S = 1.0, 60.0
KEPT = 20  # crashes of a door whose inputs are kept


class Hang(BaseException):
    """The alarm; not an Exception, so that no door catches it."""


@dataclass
class Found:
    """What came of the inputs of a door."""

    name: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: dict[str, bytes] = field(default_factory=dict)  # one input for each kind of crash
    crashed: int = 0
    slowest_s: float = 0.0
    slowest: bytes = b""
    seconds: float = 0.0
    most_bytes: int = 0
    most: bytes = b""

    def crash(self, what: str, data: bytes) -> None:
        """Note a crash."""
        self.crashed += 1
        if what not in self.crashes and len(self.crashes) < KEPT:
            self.crashes[what] = data


def fuzz(decoder: Decoder, folder: Path, inputs: int, seed: int) -> Found:
    """Send so many bent inputs through a door; the same seed gives the same inputs."""
    case, found = decoder.open(folder), Found(decoder.name)
    draw = random.Random(f"{decoder.name} {seed}")
    for data in case.seeds:
        _once(case, data, found, decoder)
    if found.refused or found.crashed:
        raise AssertionError(f"{decoder.name}: a seed is not taken: {found.crashes or 'refused'}")
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        while found.inputs < inputs:
            _once(case, bent(decoder, case, draw), found, decoder)
    return found


def bent(decoder: Decoder, case: Case, draw: random.Random) -> bytes:
    """The next input."""
    how = draw.random()
    if how < 0.03:
        return spliced(case.seeds, draw)
    if how < 0.06:
        return bent_bytes(decoder.bend(draw.choice(case.seeds), draw), draw)
    return decoder.bend(draw.choice(case.seeds), draw)


def tried(case: Case, data: bytes) -> tuple[str, str]:
    """`accepted`, `refused` or `crashed`, and in which way."""
    try:
        value = case.read(data)
    except EdgequiltError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Hang:
        return "crashed", "it waits for something that does not come"
    except Exception as error:  # noqa: BLE001  # that is the question
        return "crashed", _called(error)
    return _stable(case, value)


def _stable(case: Case, value: Any) -> tuple[str, str]:
    if case.write is None:
        return "accepted", ""
    try:
        once = case.write(value)
        again = case.write(case.read(once))
    except Exception as error:  # noqa: BLE001  # that is the question
        return "crashed", f"what was read cannot be written and read: {_called(error)}"
    return ("accepted", "") if once == again else ("crashed", "what was read reads otherwise once it was written")


def _called(error: BaseException) -> str:
    frame, last = error.__traceback__, error.__traceback__
    while frame is not None:
        last = frame if "site-packages" not in frame.tb_frame.f_code.co_filename else last
        frame = frame.tb_next
    where = "" if last is None else f" in {Path(last.tb_frame.f_code.co_filename).name}:{last.tb_frame.f_code.co_name}"
    return f"{type(error).__name__}{where}"


def _once(case: Case, data: bytes, found: Found, decoder: Decoder) -> None:
    before = _high_water(reset=True)
    begun = time.process_time()
    with _alarm():
        how, what = tried(case, data)
    seconds = time.process_time() - begun
    grown = _high_water() - before
    found.inputs += 1
    found.seconds += seconds
    if seconds > found.slowest_s:
        found.slowest_s, found.slowest = seconds, data
    if grown > found.most_bytes:
        found.most_bytes, found.most = grown, data
    if how == "accepted":
        found.accepted += 1
    elif how == "refused":
        found.refused += 1
    if how == "crashed":
        found.crash(what, data)
    elif seconds > HANG_S:
        found.crash("it takes more than a second", data)
    elif grown > decoder.memory_bytes:
        found.crash(f"it takes more than {decoder.memory_bytes >> 20} MiB", data)


@contextmanager
def _quiet() -> Iterator[None]:
    """Some doors log each file that they cannot read: thousands of lines beside the one that a failed test has."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    try:
        with suppress(Hang):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _high_water(*, reset: bool = False) -> int:
    """The most that the process has held, in bytes; from now on, after a reset."""
    if reset:
        with suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123  # no file of ours
            file.write("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def file_name(door: str) -> str:
    """What a door is called in the name of a file."""
    return "".join(c if c.isalnum() else "-" for c in door)


def name_of(data: bytes) -> str:
    """What an input is called in a table."""
    return f"{hashlib.sha256(data).hexdigest()[:12]} ({len(data)} bytes)"
