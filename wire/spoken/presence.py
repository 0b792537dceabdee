"""That a device is there, and what it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wire.record import at_least
from wire.spoken.sender import Sender


@dataclass(frozen=True)
class Hello:
    """Device: I am here, this is what I run and hold. Sent at every connect."""

    TYPE: ClassVar[str] = "hello"
    sender: Sender
    agent: str
    profile: str
    bundle: str  # SHA-256 of the manifest that it serves
    rank: int = field(metadata=at_least(0))
    jobs: tuple[str, ...]  # job kinds that it can do, `spry`, `qzo`: by forward passes; `front`: of split ones
    samples: int = field(metadata=at_least(0))
    released: int = field(default=-1)  # the version that it serves; -1 is none
    memory_available_bytes: int | None = None
    runtime: str = ""
    power: str = ""  # mains, battery; empty: it does not know
    battery_percent: int | None = None
    network: str = ""  # wired, wifi, metered; empty: it does not know
    serves: str = ""  # digest of the version that it serves; empty: none, or an older agent that does not say it
    waits: str = ""  # why training waits, as a sentence; empty: it does not
    temperature_c: float | None = None  # of the board's hottest part; None, here and below: it does not know
    under_voltage: bool | None = None  # its power supply is too weak
    throttled: bool | None = None  # it runs slower than it could, for heat or a weak supply
    load: float | None = None  # processes that ran or waited to, mean of a minute
    disk_free_bytes: int | None = None
    uptime_s: float | None = None  # since the board started
    warnings: tuple[str, ...] = ()  # hot, under-voltage, throttled, memory-low, disk-low; others may come
    program: str = ""  # the release of the agent that runs; empty: it does not run from one that can be replaced
    system: str = ""  # what releases it takes: Python, glibc and architecture, in words
    address: str = ""  # HOST:PORT where boards reach this tail without the broker; empty: they do not
    hub_keys: tuple[str, ...] = ()  # ids of the hub's keys that it believes; empty: an older agent
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Presence:
    """Device, or the broker on its behalf (last will): online or gone."""

    TYPE: ClassVar[str] = "presence"
    sender: Sender
    state: Literal["online", "offline"]
    extra: dict[str, Any] = field(default_factory=dict)
