"""How fast files go out, and how many at a time: in all, and to each device. No I/O; the clock is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hub.web.routes import Refusal

BLOCK_BYTES, LEAST_BYTES = 64 << 10, 1 << 10
BUSY_S = 5


@dataclass(frozen=True)
class Paces:
    """Bytes per second (0: as fast as it goes), and files that are sent at a time."""

    rate: float = 0.0
    rate_per_device: float = 0.0
    files: int = 32
    files_per_device: int = 2

    @property
    def block_bytes(self) -> int:
        """What goes out at a time: little enough for a second, so that nobody is silent for long or late for it.

        >>> Paces().block_bytes, Paces(rate=320e3).block_bytes, Paces(rate_per_device=2000.0).block_bytes
        (65536, 10000, 2000)
        """
        shares = [rate for rate in (self.rate / self.files, self.rate_per_device) if rate]
        return max(LEAST_BYTES, min([BLOCK_BYTES, *map(int, shares)]))


@dataclass
class Pace:
    """Files on their way."""

    paces: Paces
    clock: Callable[[], float] = time.monotonic
    under_way: dict[str, int] = field(default_factory=dict)
    _free_at: dict[str, float] = field(default_factory=dict)  # by device; all of them together are ""

    @contextmanager
    def sending(self, device: str) -> Iterator[None]:
        """Send a file to a device.

        Raises:
            Refusal: 429 or 503, so many are sent already.
        """
        here, told = self.under_way.get(device, 0), {"Retry-After": str(BUSY_S)}
        if here >= self.paces.files_per_device:
            raise Refusal(429, f"expected at most {here} files at a time, found one more; ask again", told)
        if sum(self.under_way.values()) >= self.paces.files:
            raise Refusal(503, "expected fewer boards that fetch at a time; ask again in a while", told)
        self.under_way[device] = here + 1
        try:
            yield
        finally:
            self.under_way[device] -= 1
            if not self.under_way[device]:
                del self.under_way[device]
                self._free_at.pop(device, None)

    def wait_s(self, device: str, count: int) -> float:
        """How long to wait before so many bytes may go out; they count as sent.

        >>> pace = Pace(Paces(rate=100.0), lambda: 0.0)
        >>> pace.wait_s("barn", 50), pace.wait_s("coop", 50), pace.wait_s("barn", 1)
        (0.0, 0.5, 1.0)
        """
        now, wait = self.clock(), 0.0
        for name, rate in (("", self.paces.rate), (device, self.paces.rate_per_device)):
            if rate:
                free = max(now, self._free_at.get(name, now))
                wait = max(wait, free - now)
                self._free_at[name] = free + count / rate
        return wait
