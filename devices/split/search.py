"""What all boards of a fleet could do at one micro-batch, and the best of it.

Every board is planned for by itself (`hsplitlora`), or all of them for one deadline (`fedpipe`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from devices.memory import FLOAT_BYTES, adapter_bytes
from devices.split.fedpipe import LONGEST_NS, Chooser, least_deadline
from devices.split.fleet_plan import FRONT, VERSION, BoardPlan, Captured, FleetPlan, Objective, TailPlan, Trainer
from devices.split.frontier import Frontier
from devices.split.holdings import Holding, Memory, borders_of, holdings, slots_before
from devices.split.hsplitlora import Configured, split_and_ranks
from devices.split.offers import STEPS_TOGETHER, Clock, Offer
from devices.split.reasons import Made, reasons
from devices.split.tails import TailMemory, kept_busy, tail_of
from devices.split.work import WHOLE, Importance, Member, ModelWork, SlotWork, Terms, Units
from devices.stages import Station
from devices.thin import crossing, places_of

MODES: dict[Trainer, str] = {
    "backprop": "train",
    "split": "train",
    "local": "train",
    "forward": "train-forward",
    "spry": "train-forward",
}
EXACT: tuple[Trainer, ...] = ("backprop", "split")
LOCAL: tuple[Trainer, ...] = ("local",)
FORWARD: tuple[Trainer, ...] = ("forward",)
DIFFERENCES: tuple[Trainer, ...] = ("spry",)


@dataclass(frozen=True)
class Round:
    """What all boards do at one micro-batch; `tail` None where no board needs one."""

    micro_batch: int
    boards: tuple[Configured, ...]
    tail: TailPlan | None
    deadline_ns: int | None

    def worth(self, objective: Objective) -> float:
        """Importance covered; by "time" batch times that per nanosecond."""
        if objective == "importance":
            return sum(board.covered for board in self.boards)
        longest = max(self.deadline_ns or 0, *(board.round_ns for board in self.boards))
        return sum(board.offer.batch * board.covered for board in self.boards) / longest


def _earliest(units: Units, slots: Sequence[SlotWork], borders: Sequence[int]) -> list[int]:
    """Where a front that learns little may end, the best first: a tail learns better what lies behind.

    Of the borders with at most half of the slots before them the earliest that at most a quarter more bytes cross than
    the one with least; or the very first one.
    """
    half = [b for b in borders if 2 * slots_before(slots, b) <= len(slots)] or borders[:1]
    least = min((crossing(units, border) for border in half), default=0)
    return [*[b for b in half if 4 * crossing(units, b) <= 5 * least][:1], *borders[:1]]


class Search:
    """All parts of all boards."""

    def __init__(
        self, model: ModelWork, members: Sequence[Member], tail: Member | None, terms: Terms, importance: Importance
    ) -> None:
        self.model, self.members, self.tail, self.terms, self.importance = model, members, tail, terms, importance
        self._frontiers: dict[tuple[int, ...], Frontier] = {}
        self._memories: dict[tuple[str, str, str, int, int], Memory] = {}
        self._thinned: dict[tuple[int, str], tuple[int, ...]] = {}

    def frontier(self, member: Member) -> Frontier:
        """Of the ranks that a board may have."""
        if member.ranks not in self._frontiers:
            self._frontiers[member.ranks] = Frontier(self.model.slots, self.importance.of, member.ranks)
        return self._frontiers[member.ranks]

    def round(self, micro_batch: int) -> Round | None:
        """What all boards do at a micro-batch; None if one can do nothing, or the tail does not fit."""
        offers = [self.offers(member, micro_batch) for member in self.members]
        if not all(offers):
            return None
        if self.terms.objective == "time":
            made, deadline = self._timed(offers)
        else:
            pairs = zip(self.members, offers, strict=True)
            made, deadline = [split_and_ranks(own, self.frontier(m), m.quants) for m, own in pairs], None
        chosen = [one for one in made if one is not None]
        if len(chosen) < len(self.members):
            return None
        fronts = [one for one in chosen if one.offer.trainer in FRONT]
        tail = self._tail(fronts, micro_batch)
        if tail is None:
            return None if fronts else Round(micro_batch, tuple(chosen), None, deadline)
        clock, last = Clock(self.model, micro_batch, self.terms, self.tail), max(tail.cuts)
        known = tuple(replace(one, offer=clock.behind(one.offer, last)) for one in chosen)
        return Round(micro_batch, known, kept_busy(tail, known, self.terms.steps), deadline)

    def _timed(self, offers: Sequence[Sequence[Offer]]) -> tuple[list[Configured | None], int | None]:
        """Each board's round within the deadline that is given, or within the least one."""
        choosers = [Chooser(own, self.frontier(m), m.quants) for m, own in zip(self.members, offers, strict=True)]
        deadline = self.terms.deadline_ns
        if deadline is None:
            deadline = least_deadline(choosers, -(-self.terms.items * WHOLE // self.terms.steps))
        return [chooser.within(deadline or LONGEST_NS) for chooser in choosers], deadline

    def _tail(self, fronts: Sequence[Configured], micro_batch: int) -> TailPlan | None:
        if not fronts or self.tail is None:
            return None
        for quant in self.tail.quants:
            memory = TailMemory(self.model, self.tail, quant, micro_batch, self.tail.board.budget_bytes)
            found = tail_of(memory, quant, fronts)
            if found is not None:
                return found
        return None

    def offers(self, member: Member, micro_batch: int) -> list[Offer]:
        """What one board could do at a micro-batch, by the best kind of trainer that it has.

        Exact gradients come first, unless a step would wait for its link longer than it computes and the front may
        learn alone; differences come last, those of a front first: what lies behind it learns by gradients.
        """
        exact = list(self.offers_by(member, micro_batch, EXACT))
        found = [offer for offer in exact if offer.sensible or "local" not in member.trainers]
        found = found or list(self.offers_by(member, micro_batch, LOCAL)) or exact
        found = found or list(self.offers_by(member, micro_batch, FORWARD))
        return found or list(self.offers_by(member, micro_batch, DIFFERENCES))

    def offers_by(self, member: Member, micro_batch: int, trainers: Sequence[Trainer]) -> Iterator[Offer]:
        """What it could do by some trainers, every format, part and batch."""
        clock = Clock(self.model, micro_batch, self.terms, self.tail)
        for quant in member.quants:
            for trainer in (t for t in trainers if self.able(member, t, micro_batch) and self._held(t)):
                memory = self.memory(member, quant, trainer, micro_batch, member.board.budget_bytes)
                for batch in self.batches(micro_batch):
                    for holding in self._holdings(memory, member, trainer, batch):
                        yield clock.offer(member, holding, trainer, batch)

    def _holdings(self, memory: Memory, member: Member, trainer: Trainer, batch: int) -> Iterator[Holding]:
        fronts, slots = trainer in FRONT, self.model.slots
        borders = borders_of(memory.units, slots, memory.places) if fronts else [len(memory.units)]
        borders = _earliest(memory.units, slots, borders) if trainer in FORWARD else borders
        found = holdings(memory, slots, self.frontier(member), borders, batch, self._extra_bytes(trainer))
        return itertools.islice(found, 1) if trainer in FORWARD else found

    def _extra_bytes(self, trainer: Trainer) -> int:
        """What a front keeps beside its adapters where it learns alone: a head, with its optimizer."""
        return adapter_bytes(self.model.head_values, 1, "train") if trainer == "local" else 0

    def _held(self, trainer: Trainer) -> bool:
        """Whether somebody holds what a trainer leaves over."""
        return trainer not in FRONT or self.tail is not None

    def able(self, member: Member, trainer: Trainer, micro_batch: int) -> bool:
        """Whether a board may learn in this way, and there are numbers for it."""
        mode = MODES[trainer]
        wanted = trainer in member.trainers and member.board.mode in ("train", mode)
        needed = {mode, "train"} if trainer in FRONT else {mode}  # a tail goes back
        return wanted and all((micro_batch, one) in self.model.units for one in needed)

    def memory(self, member: Member, quant: str, trainer: Trainer, micro_batch: int, limit: int) -> Memory:
        """Of a board; `limit` in bytes, above which nobody looks."""
        key = (member.board.name, quant, MODES[trainer], micro_batch, limit)
        if key not in self._memories:
            units, places = self.model.units[micro_batch, MODES[trainer]], self._places(micro_batch, MODES[trainer])
            self._memories[key] = Memory(units, member, quant, MODES[trainer], micro_batch, places, limit)
        return self._memories[key]

    def _places(self, micro_batch: int, mode: str) -> tuple[int, ...]:
        """Where parts may begin and end."""
        if (micro_batch, mode) not in self._thinned:
            stations = [Station(m.stored(m.quants[0], mode), m.speed) for m in self.members]
            self._thinned[micro_batch, mode], _ = places_of(self.model.units[micro_batch, mode], stations, micro_batch)
        return self._thinned[micro_batch, mode]

    def batches(self, micro_batch: int) -> list[int]:
        """Multiples of the micro-batch; where all boards have the same, the largest."""
        able = [batch for batch in self.terms.batches if batch % micro_batch == 0]
        if self.terms.objective == "time" or not able:
            return able
        return [max(able)]

    def told(self, found: Round, captured: Captured) -> FleetPlan:
        """A round as a plan, with reasons."""
        units = self.model.units_at(found.micro_batch)
        return FleetPlan(
            VERSION,
            captured,
            tuple(unit.name for unit in units),
            found.micro_batch,
            self.terms.steps,
            tuple(self._board(m, c, found) for m, c in zip(self.members, found.boards, strict=True)),
            {name: share / WHOLE for name, share in self.importance.of.items()},
            found.tail,
            self.importance.source,
            self.terms.objective,
            found.deadline_ns,
        )

    def _board(self, member: Member, chosen: Configured, found: Round) -> BoardPlan:
        offer, holding = chosen.offer, chosen.offer.holding
        memory = self.memory(member, holding.quant, offer.trainer, found.micro_batch, member.board.budget_bytes)
        ranks = self.frontier(member).ranks(holding.count, chosen.index)
        peak = memory.peak(holding, chosen.values, offer.batch, self._extra_bytes(offer.trainer))
        made = Made(member, chosen, memory.units, holding.count, ranks, peak, found.deadline_ns)
        front, sent = offer.trainer in FRONT, FLOAT_BYTES * chosen.values
        return BoardPlan(
            member.board.name,
            member.board.budget_bytes,
            offer.trainer,
            holding.border,
            holding.quant,
            ranks,
            offer.batch,
            peak,
            offer.step_ns,
            chosen.round_ns,
            offer.up_bytes + sent,
            offer.down_bytes + sent,
            chosen.covered / WHOLE,
            member.board.profile,
            "train-forward" if holding.mode == "train-forward" else "train",
            memory.units[holding.border].name if front else "",
            holding.cuts,
            self.terms.coding if front else "",
            self.terms.labels if front else "",
            tuple(reasons(made, self.terms, self.importance)),
            offer.link_ns if offer.trainer in STEPS_TOGETHER else 0,
        )
