"""Small models and boards for the planner over a fleet, and every plan that there is for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from devices.memory import MIB, Need
from devices.plan import Board, needs
from devices.split.gain import gain
from devices.split.work import WHOLE, Member, ModelWork, SlotWork, Terms
from devices.times import LOADS, NS, Speed, ns, unit_ns
from devices.units import Unit

FIXED = Need(0, 0).total
KIB = 1024
QUICK = Speed(10**12, 10**12, 10**12, "a test")
SLOW = Speed(10**9, 10**9, 10**7, "a test")
CODED = {"float32": 1.0, "float16": 0.5, "int8": 0.26}


def unit(name: str, weights: int, kept: int, boundary: int, slot: int = 0, carried: int = 0) -> Unit:
    """A unit in KiB; int8 is a quarter of fp32, and what a cut needs is what crosses it."""
    return Unit(
        name,
        {"fp32": weights * KIB, "int8": weights * KIB // 4},
        kept * KIB,
        kept * KIB // 2,
        boundary * KIB,
        slot,
        carried_bytes_per_item=carried,
        flops_per_item=1000 * (weights + 1),
        moved_bytes_per_item=kept * KIB,
    )


sizes = st.integers(0, 400)
parts = st.tuples(sizes, sizes, st.integers(1, 60), st.sampled_from([0, 0, 4000, 7000, 9100]), st.integers(0, 64))


@st.composite
def models(draw: st.DrawFn, most: int = 4, micro_batches: tuple[int, ...] = (2, 1)) -> ModelWork:
    """A model with a slot at least."""
    drawn = draw(st.lists(parts, min_size=1, max_size=most))
    if not any(slot for _, _, _, slot, _ in drawn):
        drawn[0] = (*drawn[0][:3], 700, drawn[0][4])
    units = [unit(f"u{k}", w, kept, b, slot, carried) for k, (w, kept, b, slot, carried) in enumerate(drawn)]
    forward = [replace(one, kept_bytes_per_item=0) for one in units]
    slots = [SlotWork(f"s{k}", k, part[3], 1 + k) for k, part in enumerate(drawn) if part[3]]
    by = {(m, mode): own for m in micro_batches for mode, own in (("train", units), ("train-forward", forward))}
    return ModelWork(by, tuple(slots))


rates = st.integers(10**8, 10**10)
boards = st.builds(
    Member,
    st.builds(
        Board,
        name=st.just("board"),
        budget_bytes=st.integers(FIXED, FIXED + 4 * MIB),
        rank=st.sampled_from([None, 2, 3]),
    ),
    st.builds(
        Speed, st.integers(10**8, 10**10), st.integers(10**8, 10**10), st.integers(10**5, 10**8), st.just("drawn")
    ),
    st.sampled_from([("int8",), ("fp32", "int8"), ("int8", "fp32")]),
    st.just(("backprop", "split")),
)
TAIL = Member(Board("server", 1 << 40), QUICK, ("fp32",))


@dataclass(frozen=True)
class Plan:
    """One of all plans of a board."""

    covered: int
    batch: int
    quant: str
    crossing: int
    round_ns: int
    border: int


def every_plan(model: ModelWork, member: Member, shares: dict[str, int], terms: Terms, micro: int) -> Iterator[Plan]:
    """Every border that the planner looks at, with every subset of cuts and every choice of ranks that fits."""
    units = model.units[micro, "train"]
    for border, quant, batch in itertools.product(_borders(model, micro), member.quants, terms.batches):
        if batch % micro:
            continue
        fits = list(_that_fit(model, member, micro, border, quant, batch))
        own = [slot for slot in model.slots if slot.unit < border]
        matters = [shares[slot.name] > 0 for slot in own]  # adapters that cover nothing are none
        fits = [(cuts, ranks) for cuts, ranks in fits if any(r for r, it in zip(ranks, matters, strict=True) if it)]
        fewest = min((cuts for cuts, _ in fits), default=0)
        for ranks in {ranks for cuts, ranks in fits if cuts == fewest}:
            values = sum(s.values_per_rank * r for s, r in zip(own, ranks, strict=True))
            covered = sum(gain(shares[s.name], r) for s, r in zip(own, ranks, strict=True))
            time = _round_ns(model, member, terms, micro, border, quant, batch, fewest, values)
            down = _coded(units, border, terms)
            carried = units[border - 1].carried_bytes_per_item if border < len(units) else 0
            crossing = batch * terms.steps * (2 * down + carried)
            yield Plan(covered, batch, quant, crossing, time, border)


def _borders(model: ModelWork, micro: int) -> list[int]:
    """By the words of docs/plan.md: of the same slots, fewer bytes must cross than at each earlier border."""
    units = model.units[micro, "train"]
    found = []
    for border in range(1, len(units)):
        here = units[border - 1].boundary_bytes_per_item + units[border - 1].carried_bytes_per_item
        slots = [slot.unit < border for slot in model.slots]
        earlier = [
            units[b - 1].boundary_bytes_per_item + units[b - 1].carried_bytes_per_item
            for b in range(1, border)
            if [slot.unit < b for slot in model.slots] == slots
        ]
        if any(slots) and not all(slots) and all(here < there for there in earlier):
            found.append(border)
    return [*found, len(units)]


def _that_fit(
    model: ModelWork, member: Member, micro: int, border: int, quant: str, batch: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    units, board = model.units[micro, "train"], replace(member.board, mode="train", quant=quant, rank=0)
    subsets = [cuts for count in range(border) for cuts in itertools.combinations(range(1, border), count)]
    peaks = [(len(c), max(n.total for n in needs(units, board, c, micro, batch, (0, border)))) for c in subsets]
    room = [(count, board.budget_bytes - peak) for count, peak in peaks]
    own = [slot for slot in model.slots if slot.unit < border]
    for ranks in itertools.product((0, *member.ranks), repeat=len(own)):
        held = 16 * sum(s.values_per_rank * r for s, r in zip(own, ranks, strict=True))
        yield from {(count, ranks) for count, left in room if any(ranks) and held <= left}


def _coded(units: object, border: int, terms: Terms) -> int:
    """A boundary as it is sent, in bytes, rounded up."""
    assert isinstance(units, list)
    if border == len(units):
        return 0
    return -int(-units[border - 1].boundary_bytes_per_item * CODED[terms.coding] // 1)


def _round_ns(
    model: ModelWork,
    member: Member,
    terms: Terms,
    micro: int,
    border: int,
    quant: str,
    batch: int,
    cuts: int,
    values: int,
) -> int:
    """Board, link and tail one after the other at every step, then the adapters there and back."""
    units, link = model.units[micro, "train"], member.speed.link_bytes_per_s
    lone = border == len(units) and not cuts
    front = _trained_ns(model, units[:border], 0, quant, micro, member.speed, lone=lone) * (batch // micro)
    if cuts:
        front += LOADS["train"] * ns(sum(one.weight_bytes[quant] for one in units[:border]), member.speed.bytes_per_s)
    tail = _trained_ns(model, units[border:], border, "fp32", micro, TAIL.speed, lone=False) * (batch // micro)
    carried = units[border - 1].carried_bytes_per_item if border < len(units) else 0
    crossing = ns(batch * (2 * _coded(units, border, terms) + carried), link)
    return terms.steps * (front + tail + crossing) + -(-8 * values * NS // link)


def _trained_ns(
    model: ModelWork, units: Sequence[Unit], start: int, quant: str, micro: int, speed: Speed, *, lone: bool
) -> int:
    """Forward, but for one segment alone, then back through all from the lowest slot on: 9/4 of a forward pass."""
    lowest, back, forward = min(slot.unit for slot in model.slots), 0, 0
    for at, one in enumerate(units, start):
        took = unit_ns(one, quant, "serve", micro, speed)
        back += took if at >= lowest else 0
        forward += took if at < lowest or not lone else 0
    return forward + -(-9 * back // 4)


def shares_of(model: ModelWork, weights: list[int]) -> dict[str, int]:
    """Importance by slot, some of it nothing."""
    total = sum(weights[: len(model.slots)]) or 1
    return {slot.name: WHOLE * weight // total for slot, weight in zip(model.slots, weights, strict=False)}
