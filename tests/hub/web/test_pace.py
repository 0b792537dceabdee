"""How fast files go out, by a clock that tests move, and how many at a time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from hub.web.pace import BUSY_S, Pace, Paces
from hub.web.routes import Refusal


class Clock:
    """One that stands still until it is moved; seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def send(pace: Pace, clock: Clock, device: str, blocks: int, count: int) -> float:
    """Send blocks one after the other as the server does, and return how long that took."""
    began = clock.now_s
    for _ in range(blocks):
        clock.now_s += pace.wait_s(device, count)
    return clock.now_s - began


def test_one_device_gets_its_rate() -> None:
    """Each block waits until those before it are paid for: so many bytes take as long as the smaller rate says."""
    for paces in (Paces(rate=1000.0, rate_per_device=100.0), Paces(rate=100.0), Paces(rate_per_device=100.0)):
        clock = Clock()
        assert send(Pace(paces, clock), clock, "barn", 11, 50) == pytest.approx(5.0)


def test_devices_share_the_rate_in_all() -> None:
    """Two that fetch together take twice as long as one; without a rate in all each has its own."""
    clock = Clock()
    shared = Pace(Paces(rate=100.0), clock)
    assert sum(shared.wait_s(name, 50) > 0 for name in ("barn", "coop")) == 1
    assert shared.wait_s("barn", 50) == pytest.approx(1.0)
    alone = Pace(Paces(rate_per_device=100.0), Clock())
    assert [alone.wait_s(name, 50) for name in ("barn", "coop", "barn")] == [0.0, 0.0, pytest.approx(0.5)]


def test_time_without_sending_is_not_saved_up() -> None:
    """Whoever was silent for an hour may not send an hour's bytes at once."""
    clock = Clock()
    pace = Pace(Paces(rate=100.0), clock)
    pace.wait_s("barn", 50)
    clock.now_s += 3600
    assert [pace.wait_s("barn", 50) for _ in range(3)] == [0.0, pytest.approx(0.5), pytest.approx(1.0)]


def test_no_rate_means_no_wait() -> None:
    """0 is as fast as it goes."""
    clock = Clock()
    assert send(Pace(Paces(), clock), clock, "barn", 100, 1 << 30) == 0


def test_so_many_files_at_a_time() -> None:
    """Two to a device (429) and 32 in all (503), with Retry-After; what ends, well or not, makes room again."""
    pace = Pace(Paces())
    with ExitStack() as first:
        for name in [f"barn-{number}" for number in range(16)] * 2:
            first.enter_context(pace.sending(name))
        for name, status in (("barn-3", 429), ("coop", 503)):
            with pytest.raises(Refusal) as refused, pace.sending(name):
                pass
            assert (refused.value.status, refused.value.headers) == (status, {"Retry-After": str(BUSY_S)})
    assert pace.under_way == {}
    with pytest.raises(ConnectionError), pace.sending("coop"):
        raise ConnectionError
    assert pace.under_way == {}


@pytest.mark.parametrize(
    "paces",
    [Paces(rate=2000.0, files=4), Paces(rate_per_device=1500.0), Paces(rate=1e6, rate_per_device=3000.0)],
    ids=["in all", "each", "both"],
)
def test_nobody_waits_long_for_a_block_however_slow_the_rate(paces: Paces) -> None:
    """With as many files on their way as may be, the wait for one block stays near a second or its least size."""
    clock = Clock()
    pace = Pace(paces, clock)
    devices = [f"barn-{number}" for number in range(paces.files)]

    waits = [pace.wait_s(device, paces.block_bytes) for _ in range(2) for device in devices]

    least = 1024 * 2 * paces.files / paces.rate if paces.rate else 0.0  # a block is never smaller than that
    assert max(waits) <= max(2.0, least)
