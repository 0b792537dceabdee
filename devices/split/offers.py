"""What a board could do in a round, each with its time: a part that it can hold, a trainer, items of a step.

Times add up without overlap: the board computes, what crosses travels, the tail computes, and the gradient comes back.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from devices.memory import FLOAT_BYTES
from devices.split.fleet_plan import FRONT, Trainer
from devices.split.holdings import Holding
from devices.split.work import CODED, SPRY_RUNS, Member, ModelWork, Terms, Units
from devices.times import LOADS, NS, Speed, back_ns, ns, unit_ns
from devices.units import boundary

STEPS_TOGETHER: tuple[Trainer, ...] = ("split", "forward")  # a gradient comes back in every step
RUNS: dict[Trainer, int] = {"spry": SPRY_RUNS, "forward": SPRY_RUNS + 1}  # of the graph for one of a micro-batch
FACTORS = 2 * FLOAT_BYTES  # bytes of a round per value of an adapter: the update up, the version down


@dataclass(frozen=True)
class Offer:
    """A round of one board, its adapters not yet counted.

    Attributes:
        holding: what it holds.
        trainer: how it learns.
        batch: items of a step.
        front_ns: of a step, what the board computes.
        tail_ns: of a step, what the tail computes.
        link_ns: of a step, what crosses.
        fixed_ns: of a round, without its adapters.
        up_bytes: of a round, without its adapters.
        down_bytes: likewise.
        link_bytes_per_s: of its network.
    """

    holding: Holding
    trainer: Trainer
    batch: int
    front_ns: int
    tail_ns: int
    link_ns: int
    fixed_ns: int
    up_bytes: int
    down_bytes: int
    link_bytes_per_s: int

    @property
    def step_ns(self) -> int:
        """Of a step, what it waits for included."""
        waits = self.tail_ns + self.link_ns if self.trainer in STEPS_TOGETHER else 0
        return self.front_ns + waits

    @property
    def sensible(self) -> bool:
        """Whether a step computes for at least as long as it waits for the link."""
        return self.trainer != "split" or self.link_ns <= self.front_ns + self.tail_ns

    def round_ns(self, values: int) -> int:
        """Of a round, with adapters of so many values."""
        return self.fixed_ns + ns(FACTORS * values, self.link_bytes_per_s)

    def values_within(self, deadline_ns: int) -> int:
        """How large adapters may be for a round in time; below 0 where even none are too much."""
        return (deadline_ns - self.fixed_ns) * self.link_bytes_per_s // (FACTORS * NS)


class Clock:
    """Times of the parts of a model at one micro-batch, each summed once."""

    def __init__(self, model: ModelWork, micro_batch: int, terms: Terms, tail: Member | None) -> None:
        """`tail`: who computes what lies behind a border."""
        self.model, self.micro_batch, self.terms, self.tail = model, micro_batch, terms, tail
        self._sums: dict[tuple[Speed, str, str], list[int]] = {}

    def offer(self, member: Member, holding: Holding, trainer: Trainer, batch: int) -> Offer:
        """One round of a board."""
        link = self._link(member, trainer)
        runs, units = -(-batch // self.micro_batch), self.model.units[self.micro_batch, holding.mode]
        front = runs * RUNS.get(trainer, 1) * self.held_ns(member, holding, trainer)
        if holding.cuts:
            weights = sum(unit.weight_bytes[holding.quant] for unit in units[: holding.border])
            front += LOADS.get(holding.mode, 1) * ns(weights, member.speed.bytes_per_s)
        up, down = self.crossing_bytes(units, holding.border)
        crossing_ns = ns(batch * (up + down), link)
        tail = 0 if trainer not in FRONT else runs * self.behind_ns(holding.border, len(units))
        items = batch * self.terms.steps
        if trainer in STEPS_TOGETHER:
            fixed, sent, got = self.terms.steps * (front + tail + crossing_ns), items * up, items * down
        elif trainer == "local":
            fixed, sent, got = self.terms.steps * front + ns(items * up, link), items * up, 0
        else:
            fixed, sent, got, crossing_ns = self.terms.steps * front, 0, 0, 0
        return Offer(holding, trainer, batch, front, tail, crossing_ns, fixed, sent, got, link)

    def crossing_bytes(self, units: Units, border: int) -> tuple[int, int]:
        """Of one item on its way up and down: the boundary as it is coded, up also inputs that the tail reads."""
        if not 0 < border < len(units):
            return 0, 0
        part, of = CODED[self.terms.coding]
        coded = -(-boundary(units, border) * part // of)
        return coded + units[border - 1].carried_bytes_per_item, coded

    def behind(self, offer: Offer, last: int) -> Offer:
        """The offer with what its tail computes, whose last segment begins at a unit; before, nobody knew its cuts."""
        if offer.trainer not in FRONT:
            return offer
        tail = -(-offer.batch // self.micro_batch) * self.behind_ns(offer.holding.border, last)
        saved = self.terms.steps * (offer.tail_ns - tail) if offer.trainer in STEPS_TOGETHER else 0
        return replace(offer, tail_ns=tail, fixed_ns=offer.fixed_ns - saved)

    def held_ns(self, member: Member, holding: Holding, trainer: Trainer) -> int:
        """What a board computes for a micro-batch; of a front, and of several segments, all go forth and then back."""
        sums = self.sums(member.speed, holding.quant, holding.mode)
        if holding.mode != "train":
            return sums[holding.border]
        last = holding.border if trainer in FRONT or holding.cuts else 0
        return self._trained(sums, 0, holding.border, last)

    def behind_ns(self, border: int, last: int) -> int:
        """What the tail computes for a micro-batch from a border on, where its last segment begins at a unit."""
        if self.tail is None:
            return 0
        sums = self.sums(self.tail.speed, self.tail.quants[0], "train")
        return self._trained(sums, border, len(sums) - 1, max(border, last))

    def _trained(self, sums: Sequence[int], start: int, end: int, last: int) -> int:
        """Forward as far as the last segment, then backward graphs down to the lowest slot; each makes its forward."""
        slots = self.model.slots
        lowest = min(max(slots[0].unit, start), end) if slots else end
        below = max(0, sums[max(lowest, last)] - sums[last])
        return sums[last] - sums[start] + below + back_ns(sums[end] - sums[lowest])

    def sums(self, speed: Speed, quant: str, mode: str) -> list[int]:
        """Times of a micro-batch forward through the units before each border."""
        key = (speed, quant, mode)
        if key not in self._sums:
            units = self.model.units[self.micro_batch, mode]
            times = (unit_ns(unit, quant, "serve", self.micro_batch, speed) for unit in units)
            self._sums[key] = list(itertools.accumulate(times, initial=0))
        return self._sums[key]

    def _link(self, member: Member, trainer: Trainer) -> int:
        rate = member.speed.link_bytes_per_s
        return rate if self.tail is None or trainer not in FRONT else min(rate, self.tail.speed.link_bytes_per_s)
