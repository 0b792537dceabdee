"""One model for a chain of boards: planned over all of them, built and verified as a whole, one bundle per board.

The segments of all boards are one chain of graphs in this process, as they are for a single board; so the check
against the original is a check of the whole chain. Only then is it shared out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from console.errors import DoesNotFit, VerificationError
from console.table import mib
from devices.across import ChainPlan, StagePlan, across
from devices.enough import KnownBoard
from devices.fleet import BoardChain
from devices.stages import Station
from devices.units import Unit
from export.activations.saturation import needs_seven_bits
from export.buckets import beside
from export.choice.assign import spent
from export.formats.registry import ACTIVATIONS
from export.half_checks import rounds_half
from export.legal import uncuttable
from export.prepare import Prepared
from export.settle import (
    MARGIN_BYTES,
    TRIES,
    Settled,
    Stages,
    explained,
    fitting,
    measured_bytes,
    predicted_bytes,
    with_left_out,
)
from export.stage import Key, Stage, chosen
from wire.manifest import Chain


class Units(Mapping[int, Sequence[Unit]]):
    """The numbers of each micro-batch, counted when they are asked for: the largest may be all that is needed."""

    def __init__(self, prepared: Prepared, mode: str) -> None:
        self.prepared, self.mode = prepared, mode

    def __getitem__(self, batch: int) -> Sequence[Unit]:
        return self.prepared.cost(batch, self.mode).units

    def __iter__(self) -> Iterator[int]:
        return iter(self.prepared.batches)

    def __len__(self) -> int:
        return len(self.prepared.batches)


def decide(prepared: Prepared, chain: BoardChain, known: Sequence[KnownBoard] | None = None) -> ChainPlan:
    """Who runs what; `known` are boards that a refusal may name.

    Raises:
        DoesNotFit: no cut fits at any micro-batch; with what keeps the graph from being cut, if that is why.
        NoGradientRule: mode "train", and an operator cannot be differentiated.
    """
    try:
        plan = across(Units(prepared, chain.mode), chain.stations, chain.objective, known=known)
    except DoesNotFit as refusal:
        reason = uncuttable(prepared.frozen(prepared.batches[-1]).graph)
        if not reason:
            raise
        raise DoesNotFit(f"{refusal}; {reason}") from refusal
    return replace(plan, stages=tuple(_spent(prepared, s, p) for s, p in zip(chain.stations, plan.stages, strict=True)))


def _spent(prepared: Prepared, station: Station, stage: StagePlan) -> StagePlan:
    """A board's stage with formats that use the room it has."""
    return replace(stage, decision=spent(prepared, station.board, stage.decision, (stage.start, stage.end)))


def settle_chain(prepared: Prepared, chain: BoardChain, stages: Stages) -> list[Settled]:
    """Plan, make and measure until every segment of every board is predicted and measured within that board's budget.

    Raises:
        DoesNotFit: no cut fits.
        VerificationError: the third plan is still measured above a budget, or computes something else.
    """
    target, tries, worst = chain, list[ChainPlan](), ""
    while True:
        try:
            plan = decide(prepared, target)
        except DoesNotFit as refusal:
            if not tries:
                raise
            raise DoesNotFit(_still_too_large(worst, len(tries))) from refusal
        tries.append(plan)
        whole = stages.made(_key(prepared, chain, plan), max(s.decision.rank for s in plan.stages), called(chain))
        measured, predicted = _measured(prepared, whole, chain, plan), _predicted(prepared, whole, chain, plan)
        taken = [max(size, *sizes) for size, sizes in zip(measured, predicted, strict=True)]
        over = [size - s.board.budget_bytes for size, s in zip(taken, chain.stations, strict=True)]
        if max(over) <= 0:
            stages.verify(called(chain), whole)
            return _shared_out(prepared, whole, chain, tries, measured, predicted)
        k = over.index(max(over))
        board = chain.stations[k].board
        worst = f"{mib(taken[k])} on board {k + 1}, {board.name}, whose budget is {mib(board.budget_bytes)}"
        if len(tries) == TRIES:
            raise VerificationError(_still_too_large(worst, TRIES))
        target = _smaller(target, plan, over)


def called(chain: BoardChain) -> str:
    """What to call a chain in a message."""
    return chain.name or " and ".join(station.board.name for station in chain.stations)


def _key(prepared: Prepared, chain: BoardChain, plan: ChainPlan) -> Key:
    shares = tuple(len(stage.decision.cuts) + 1 for stage in plan.stages)
    pairs = zip(chain.stations, shares, strict=True)
    stages = zip(pairs, plan.stages, strict=True)
    formats = tuple(
        chosen(station.board.quant, stage.decision.formats) for (station, count), stage in stages for _ in range(count)
    )
    some = next((s.board.quant for s in chain.stations if s.board.quant != "fp32"), "fp32")
    positions = prepared.cost(plan.micro_batch, chain.mode).nodes(plan.cuts)
    asked = [s.board for s in chain.stations if s.board.quant in ACTIVATIONS]
    seven = any(needs_seven_bits(board.cpu.isa) for board in asked)
    own = formats if set(formats) != {some} else ()
    half = rounds_half(prepared.train_activations, [s.board for s in chain.stations])
    others = beside(prepared, plan.micro_batch)
    return Key(chain.mode, some, plan.micro_batch, positions, own, shares, seven, half, others)


def _measured(prepared: Prepared, whole: Stage, chain: BoardChain, plan: ChainPlan) -> list[int]:
    """What the worker of each board takes at its largest segment."""
    parts = zip(whole.shares(), chain.stations, plan.stages, strict=True)
    return [
        measured_bytes(prepared, share, station.board, stage.decision, (stage.start, stage.end))
        for share, station, stage in parts
    ]


def _predicted(prepared: Prepared, whole: Stage, chain: BoardChain, plan: ChainPlan) -> list[tuple[int, ...]]:
    """The same as predicted from the graphs, for every segment."""
    parts = zip(whole.shares(), chain.stations, plan.stages, strict=True)
    return [
        predicted_bytes(prepared, share, station.board, stage.decision, (stage.start, stage.end))
        for share, station, stage in parts
    ]


def _smaller(chain: BoardChain, plan: ChainPlan, over: Sequence[int]) -> BoardChain:
    """The same chain with less for the boards that were measured above their budget; ranks stay as they were."""
    stations = []
    for station, stage, excess in zip(chain.stations, plan.stages, over, strict=True):
        less = excess + MARGIN_BYTES if excess > 0 else 0
        board = replace(station.board, budget_bytes=station.board.budget_bytes - less, rank=stage.decision.rank)
        stations.append(replace(station, board=board))
    return replace(chain, stations=tuple(stations))


def _shared_out(
    prepared: Prepared,
    whole: Stage,
    chain: BoardChain,
    tries: Sequence[ChainPlan],
    measured: Sequence[int],
    predicted: Sequence[tuple[int, ...]],
) -> list[Settled]:
    """One bundle per board."""
    plan, devices = tries[-1], tuple(station.board.name for station in chain.stations)
    same = json.dumps([prepared.captured.source_sha256, prepared.sequence, devices, asdict(whole.key)])
    chain_id = f"{chain.name or 'chain'}-{hashlib.sha256(same.encode()).hexdigest()[:12]}"
    extra = {"traffic_bytes_per_item": plan.traffic_bytes}
    settled = []
    for k, (station, share) in enumerate(zip(chain.stations, _all_fitting(prepared, whole, chain, plan), strict=True)):
        decision = explained([past.stages[k].decision for past in tries], predicted[k])
        decision = with_left_out(prepared, decision, share)
        place = Chain(chain_id, k, devices, plan.objective, extra)
        folder = Path(chain.name) / f"{k + 1:02d}-{station.board.name}"
        settled.append(Settled(station.board, decision, share, measured[k], folder, place))
    return settled


def _all_fitting(prepared: Prepared, whole: Stage, chain: BoardChain, plan: ChainPlan) -> list[Stage]:
    """The share of each board, with the further buckets that fit every board."""
    parts = zip(whole.shares(), chain.stations, plan.stages, strict=True)
    found = [fitting(prepared, share, s.board, stage.decision, (stage.start, stage.end)) for share, s, stage in parts]
    left_out = {name: reason for share in found for name, reason in share.left_out.items()}
    return [
        share.with_buckets([one for one in share.beside if one.bucket.name not in left_out], left_out)
        for share in found
    ]


def _still_too_large(worst: str, plans: int) -> str:
    return (
        f"expected graphs within the budget of every board, found {worst}, with plan {plans} and no other; "
        "give it a larger --budget, or take a smaller --sequence"
    )
