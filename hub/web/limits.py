"""How much one address, and all together, may ask of the hub's web server. No I/O; the clock is given."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

ADDRESSES_KEPT = 4096


@dataclass(frozen=True)
class Limits:
    """The bounds of a server; times in seconds."""

    handshake_s: float = 10.0  # from the connection to the end of the TLS handshake
    head_s: float = 10.0  # from there, or from the last answer, to a whole request head
    connections: int = 256
    connections_per_address: int = 64  # boards of one place share an address
    head_bytes: int = 8190  # of each line of it
    requests_per_minute: float = 60.0  # of routes that are limited, per address
    requests_at_once: int = 60


def counted_as(address: str) -> str:
    """What an address counts as: an IPv6 host has a whole /64 of them.

    >>> counted_as("2001:db8::1:2:3:4")
    '2001:db8::/64'
    >>> counted_as("192.0.2.7")
    '192.0.2.7'
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((found, 64), strict=False))
    return address


class Doors:
    """Counts connections."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.inside: dict[str, int] = {}

    def enter(self, address: str) -> Callable[[], None] | None:
        """What to call when a connection ends, or None if it may not come in."""
        here = self.inside.get(address, 0)
        if here >= self._limits.connections_per_address or sum(self.inside.values()) >= self._limits.connections:
            return None
        self.inside[address] = here + 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self.inside[address] -= 1
                if not self.inside[address]:
                    del self.inside[address]

        return leave


class Rate:
    """A token bucket per address; the addresses that asked longest ago are forgotten first."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = limits.requests_per_minute / 60, limits.requests_at_once, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: tokens left, at

    def wait_s(self, address: str) -> float:
        """0 if a request may be answered now, else in how many seconds one may."""
        now = self._clock()
        left, at = self._left.pop(address, (float(self._most), now))
        left = min(self._most, left + (now - at) * self._per_s)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._left[address] = (left if wait else left - 1, now)
        if len(self._left) > ADDRESSES_KEPT:
            self._left.popitem(last=False)
        return wait
