"""Why a board got what it got: a row per choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from console.table import mib, percent, size
from devices.split.fleet_plan import Reason
from devices.split.hsplitlora import Configured
from devices.split.work import WHOLE, Importance, Member, Terms, Units
from devices.times import UNKNOWN


@dataclass(frozen=True)
class Made:
    """What was decided for a board, with what its reasons are made of."""

    member: Member
    configured: Configured
    units: Units
    slots: int
    ranks: Mapping[str, int]
    peak_bytes: int
    deadline_ns: int | None


def reasons(made: Made, terms: Terms, importance: Importance) -> Iterator[Reason]:
    """The rows of one board."""
    offer, holding, count = made.configured.offer, made.configured.offer.holding, len(made.units)
    budget = mib(made.member.board.budget_bytes)
    whole = holding.border == count
    part = "the whole model" if whole else f"the units before {made.units[holding.border].name}"
    covered = percent(made.configured.covered / WHOLE)
    most = "the most within" if made.deadline_ns is None else "batch times that is the most within its time and"
    most = "within" if offer.trainer == "forward" else most
    yield Reason(
        "part", f"{part} ({holding.border} of {count})", f"covers {covered} of the importance, {most} {budget}"
    )
    yield Reason("trainer", offer.trainer, _trainer(made))
    lowest, highest = min(made.ranks.values()), max(made.ranks.values())
    span = str(lowest) if lowest == highest else f"{lowest} to {highest}"
    given = "the rank that was given" if made.member.board.rank else f"importance is {importance.source}"
    yield Reason("ranks", f"{span} over {len(made.ranks)} of {made.slots} adapters", given)
    others = [quant for quant in made.member.quants if quant != holding.quant]
    yield Reason("format", holding.quant, f"beside {', '.join(others)}" if others else "as asked for")
    yield Reason("segments", str(len(holding.cuts) + 1), f"the fewest that fit {budget}")
    yield Reason("batch", str(offer.batch), "of all boards" if made.deadline_ns is None else "what its time allows")
    yield Reason("memory", mib(made.peak_bytes), f"predicted, of {budget}")
    yield Reason("time", f"{seconds(made.configured.round_ns)} a round", _time(made, terms))
    if not whole:
        crossing = f"{size(offer.up_bytes)} up, {size(offer.down_bytes)} down"
        yield Reason("crossing", crossing, f"{terms.coding}, beside adapters of {size(4 * made.configured.values)}")


def seconds(time_ns: int) -> str:
    """A time that was predicted: three digits are more than it is worth.

    >>> seconds(1_234_000_000), seconds(45_600_000), seconds(0), seconds(12_345 * 10**9)
    ('1.23 s', '45.6 ms', '0 ms', '12345 s')
    """
    if time_ns >= 1000 * 10**9:
        return f"{time_ns / 1e9:.0f} s"
    return f"{time_ns / 1e9:.3g} s" if time_ns >= 10**9 else f"{time_ns / 1e6:.3g} ms"


DIFFERENCES: dict[str, str] = {
    "forward": "forward passes of a front fit, backward ones do not; a small front, since it learns little",
    "spry": "forward passes fit, backward ones do not; a tail (--tail NAME) would let it learn a front by gradients",
}


def _trainer(made: Made) -> str:
    offer, member = made.configured.offer, made.member
    if offer.trainer == "backprop":
        return "all of it fits"
    if offer.trainer == "split":
        if not offer.sensible:
            return f"{_link(made)}; local is not among its trainers, and would not wait"
        return "a front fits, and the tail has the rest"
    if offer.trainer == "local":
        forced = "split" not in member.trainers
        return "as asked for" if forced else f"{_link(made)}; --trainer split takes it all the same"
    if member.board.mode != "train" or "backprop" not in member.trainers:
        return "as asked for"
    return DIFFERENCES[offer.trainer]


def _link(made: Made) -> str:
    offer = made.configured.offer
    waits, computes = seconds(offer.link_ns), seconds(offer.front_ns + offer.tail_ns)
    return f"a step would wait {waits} for a link of {size(offer.link_bytes_per_s)}/s, to compute for {computes}"


def _time(made: Made, terms: Terms) -> str:
    if made.member.speed == UNKNOWN:
        return "nobody knows the speed of this board"
    deadline = "" if made.deadline_ns is None else f"of {seconds(made.deadline_ns)}, "
    return f"{deadline}{terms.steps} steps of {seconds(made.configured.offer.step_ns)}; {made.member.speed.source}"
