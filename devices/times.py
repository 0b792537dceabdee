"""What a run of some units takes on a board, in plain numbers: a lower bound to compare cuts by, not a promise.

The roofline of Williams, Waterman and Patterson ("Roofline: an insightful visual performance model", CACM 52(4),
2009): a unit takes the longer of its arithmetic at the board's peak rate and of its bytes at the board's
bandwidth. Where a profile has a latency table (`devices.latency`), a unit takes what its nodes take by that. Times
are whole nanoseconds, so that sums are exact and ties are ties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devices.latency import Latency
from devices.profile import Profile
from devices.units import Unit
from wire.work import PRODUCTS, Work

NS = 1_000_000_000
FLOPS_PER_CYCLE = {"aarch64": 8, "x86_64": 16}  # of one core, fp32: one multiply-add of 4 or 8 lanes; unverified
# Nominal rates, none measured: what a profile calls its network, the first that is contained.
NETWORKS = (
    ("10 Gigabit", 1_250_000_000),
    ("2.5 Gigabit", 312_500_000),
    ("5 Gigabit", 625_000_000),
    ("Gigabit", 125_000_000),
    ("300 Mbit/s", 37_500_000),
    ("Ethernet", 12_500_000),
    ("Wi-Fi 5", 54_000_000),
    ("Wi-Fi 4", 9_000_000),
)
SLOWEST_LINK = 9_000_000
# How often a training step goes through a unit (forward, forward again, two products of the backward pass) and
# over a link (the boundary, and its gradient back); any other mode goes once.
PASSES = {"train": 4}
# What a backward graph takes beside a forward pass: it makes that again, and the gradients of what goes in; weights are
# frozen and have none. By the nodes of the graphs of an encoder 2.0 to 2.35.
BACK, BACK_OF = 9, 4
CROSSINGS = {"train": 2}
BYTES = 8  # that a node which is no product reads and writes per element
BITS = {"int8": 8, "int4": 5, "nf4": 5}  # of a weight that is read as it is stored
LOADS = {"train": 2}  # how often a segment is loaded when its board runs several: forward, backward


@dataclass(frozen=True)
class Speed:
    """How fast a board is: rates of one core, since a worker uses one thread, and where they come from."""

    flops_per_s: int
    bytes_per_s: int
    link_bytes_per_s: int
    source: str = "given"
    latency: Latency | None = field(default=None, repr=False, hash=False)  # curves have no hash

    @property
    def known(self) -> bool:
        """Whether somebody said so; else it only serves to balance."""
        return self != UNKNOWN

    def run_ns(self, threads: int = 1) -> float:
        """What a run of a graph takes beside its nodes; 0 where nobody measured it."""
        return 0.0 if self.latency is None else self.latency.idle_ns(threads)[0]


UNKNOWN = Speed(1_000_000_000, 1_000_000_000, SLOWEST_LINK, "no profile")  # of a board that nobody described


def speed_of(profile: Profile) -> Speed:
    """The rates of a kind of board: its clock, what one core copies (else its bandwidth), its fastest network."""
    copy = profile.copy_bytes_per_s or profile.bandwidth_bytes_per_s
    flops = profile.clock_hz.value * FLOPS_PER_CYCLE[profile.architecture]
    links = [rate for named in profile.network for rate in _rates(named)]
    link, said = max(links, default=SLOWEST_LINK), "nominal, unverified"
    if profile.link_bytes_per_s is not None:
        link, said = profile.link_bytes_per_s.value, profile.link_bytes_per_s.source
    table = "" if profile.latency is None else f"nodes ({profile.latency.source}), else "
    source = (
        f"{table}"
        f"{flops / 1e9:.1f} Gflop/s (clock, {profile.clock_hz.source}; operations per cycle, unverified), "
        f"{copy.value / 1e9:.2f} GB/s ({copy.source}), link {link / 1e6:.0f} MB/s ({said})"
    )
    return Speed(flops, copy.value, link, source, profile.latency)


def _rates(network: str) -> list[int]:
    return next(([rate] for words, rate in NETWORKS if words in network), [])


def unit_ns(unit: Unit, quant: str, mode: str, micro_batch: int, speed: Speed) -> int:
    """Nanoseconds of one run of a unit over a micro-batch.

    >>> unit = Unit("layer", {"int8": 1000}, 0, 0, 0, flops_per_item=500, moved_bytes_per_item=250)
    >>> unit_ns(unit, "int8", "serve", 4, Speed(NS, NS, NS)), unit_ns(unit, "int8", "serve", 1, Speed(NS, NS, NS))
    (2000, 1250)
    """
    passes = PASSES.get(mode, 1)
    if speed.latency is not None and quant in unit.works:
        per_run, per_item = unit.works[quant]
        return passes * works_ns([*per_run, *(of_items(work, micro_batch) for work in per_item)], speed)
    arithmetic = ns(unit.flops_per_item * micro_batch, speed.flops_per_s)
    memory = ns(unit.weight_bytes[quant] + unit.moved_bytes_per_item * micro_batch, speed.bytes_per_s)
    return passes * max(arithmetic, memory)


def back_ns(forward_ns: int) -> int:
    """Nanoseconds of a backward graph over units that a forward pass takes so long for, rounded up."""
    return -(-BACK * forward_ns // BACK_OF)


def works_ns(works: Sequence[Work], speed: Speed, threads: int = 1) -> int:
    """Nanoseconds of some nodes: by the table, or by the rates where it does not know one.

    >>> works_ns([Work("Add", "fp32", (1000,), count=2)], Speed(NS, NS, NS))
    16000
    """
    return sum(_work_ns(work, speed, threads) for work in works)


def _work_ns(work: Work, speed: Speed, threads: int) -> int:
    measured = None if speed.latency is None else speed.latency.work_ns(work, threads)
    if measured is not None:
        return math.ceil(measured)
    rows, size = work.size
    arithmetic = ns(2 * rows * size if work.operator in PRODUCTS else size, speed.flops_per_s)
    moved = size * BITS.get(work.format, 32) // 8 if work.operator in PRODUCTS else BYTES * size
    return work.count * work.batch * max(arithmetic, ns(moved, speed.bytes_per_s))


def of_items(work: Work, items: int) -> Work:
    """The work of some items, where one item's is given: more rows, more products side by side, or more elements."""
    if work.batch > 1:
        return replace(work, batch=work.batch * items)
    return replace(work, shape=(work.shape[0] * items, *work.shape[1:]))


def link_ns(bytes_per_item: int, mode: str, micro_batch: int, bytes_per_s: int) -> int:
    """Nanoseconds of one micro-batch over a link, without its latency."""
    return CROSSINGS.get(mode, 1) * ns(bytes_per_item * micro_batch, bytes_per_s)


def ns(amount: int, per_s: int) -> int:
    """Time for an amount at a rate, in nanoseconds, rounded up.

    >>> ns(3, 2)
    1500000000
    """
    return -(-amount * NS // per_s)
