"""One model split between boards that hold its front and one that holds it whole, the tail (docs/split.md).

The tail is built like the bundle of one board, with a cut at every border. Each front is built by itself and then run
before the segments of the tail behind its border: that chain is what is measured and verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from console.errors import DoesNotFit, VerificationError
from console.table import mib
from devices.across import StagePlan
from devices.enough import KnownBoard
from devices.fronts import BoardSplit, SplitPlan, split
from devices.plan import Board, Decision
from export.across import Units
from export.activations.saturation import needs_seven_bits
from export.behind import going_back
from export.choice.assign import spent
from export.formats.registry import ACTIVATIONS
from export.half_checks import rounds_half
from export.legal import uncuttable
from export.prepare import Prepared
from export.settle import MARGIN_BYTES, TRIES, Settled, Stages, explained, measured_bytes, predicted_bytes
from export.split_checks import verify_front
from export.split_record import border_of
from export.stage import Key, Stage, chosen
from wire.borders import Border, Split

MODE, FORWARD = "train", "train-forward"  # of tails and of fronts; of fronts without backward graphs


def decide(prepared: Prepared, wanted: BoardSplit, known: Sequence[KnownBoard] | None = None) -> SplitPlan:
    """Where fronts end; `known` are boards that a refusal may name.

    Raises:
        DoesNotFit: a board holds no front, or the tail does not fit; with what keeps the graph from being cut.
        UsageError: a border that is none.
        NoGradientRule: see `export.behind.going_back`.
    """
    prepared = going_back(prepared, wanted)
    try:
        units = Units(prepared, MODE)
        plan = split(units, wanted, known=known, forward=Units(prepared, FORWARD), lowest=prepared.back_from)
    except DoesNotFit as refusal:
        reason = uncuttable(prepared.frozen(prepared.batches[-1]).graph)
        if not reason:
            raise
        raise DoesNotFit(f"{refusal}; {reason}") from refusal
    fronts = [
        replace(stage, decision=spent(prepared, front.board, stage.decision, (stage.start, stage.end)))
        for front, stage in zip(wanted.fronts, plan.fronts, strict=True)
    ]
    return SplitPlan(tuple(fronts), spent(prepared, wanted.tail, plan.tail))


def settle_split(prepared: Prepared, wanted: BoardSplit, stages: Stages) -> list[Settled]:
    """Plan, make and measure until every board's graphs are predicted and measured within its budget; then verify.

    Returns:
        One per front in the order of the boards, and the tail.

    Raises:
        DoesNotFit: a board holds no front, or the tail does not fit.
        VerificationError: the third plan is still measured above a budget, or computes something else.
        NoGradientRule: see `export.behind.going_back`.
    """
    prepared = going_back(prepared, wanted)
    target, tries, worst = wanted, list[SplitPlan](), ""
    while True:
        try:
            plan = decide(prepared, target)
        except DoesNotFit as refusal:
            if not tries:
                raise
            raise DoesNotFit(_still_too_large(worst, len(tries))) from refusal
        tries.append(plan)
        made = _Made(prepared, wanted, plan, stages)
        over = made.over()
        if max(over) <= 0:
            return made.settled(tries)
        k = over.index(max(over))
        board = wanted.boards[k]
        worst = f"{mib(over[k] + board.budget_bytes)} on {board.name}, whose budget is {mib(board.budget_bytes)}"
        if len(tries) == TRIES:
            raise VerificationError(_still_too_large(worst, TRIES))
        target = _smaller(target, plan, over)


class _Made:
    """The graphs of one plan."""

    def __init__(self, prepared: Prepared, wanted: BoardSplit, plan: SplitPlan, stages: Stages) -> None:
        self.prepared, self.wanted, self.plan, self.stages = prepared, wanted, plan, stages
        self.nodes = prepared.cost(plan.micro_batch, MODE).nodes
        self.borders = tuple(zip(self.nodes(plan.borders), (f"border{unit}" for unit in plan.borders), strict=True))
        key = self._key(wanted.tail, plan.tail, self.nodes(plan.tail.cuts))
        key = replace(key, back_from=self.nodes((prepared.back_from,))[0] if prepared.back_from else 0)
        self.tail = stages.made(key, plan.tail.rank, wanted.tail.name)
        self.chains = [self._chain(f.board, own) for f, own in zip(wanted.fronts, plan.fronts, strict=True)]

    def _key(self, board: Board, decision: Decision, positions: tuple[int, ...], front: int = 0) -> Key:
        formats = (chosen(board.quant, decision.formats),) if decision.formats else ()
        seven = board.quant in ACTIVATIONS and needs_seven_bits(board.cpu.isa)
        half = rounds_half(self.prepared.train_activations, [board])
        borders = self.borders if not front else tuple(b for b in self.borders if b[0] == positions[-1])
        return Key(
            board.mode, board.quant, self.plan.micro_batch, positions, formats, (), seven, half, (), borders, front
        )

    def _chain(self, board: Board, own: StagePlan) -> Stage:
        cuts = (*own.decision.cuts, own.end)
        key = self._key(board, own.decision, self.nodes(cuts), front=len(cuts))
        return self.stages.front(key, self.tail, self.behind(own.end), own.decision.rank, board.name)

    def behind(self, unit: int) -> int:
        """The number of the tail's first segment behind a border."""
        return self.plan.tail.cuts.index(unit) + 1

    def figures(self) -> list[tuple[int, tuple[int, ...]]]:
        """What the worker of each board takes at its largest segment, and what is predicted of every one."""
        parts = [(chain.shares()[0], board, plan.decision, (0, plan.end)) for board, chain, plan in self._each()]
        whole = (0, len(self.prepared.cost(self.plan.micro_batch, MODE).units))
        parts.append((self.tail, self.wanted.tail, self.plan.tail, whole))
        return [(measured_bytes(self.prepared, *part), predicted_bytes(self.prepared, *part)) for part in parts]

    def over(self) -> list[int]:
        """How much more than its budget each board takes, the tail last."""
        taken = [max(measured, *predicted) for measured, predicted in self.figures()]
        return [size - board.budget_bytes for size, board in zip(taken, self.wanted.boards, strict=True)]

    def settled(self, tries: Sequence[SplitPlan]) -> list[Settled]:
        """All bundles, verified."""
        self.stages.verify(self.wanted.tail.name, self.tail)
        for board, chain, plan in self._each():
            check = partial(verify_front, tail=self.tail, at=self.behind(plan.end))
            self.stages.verify(board.name, chain, check)
        *own, whole = self.figures()
        out = []
        for k, (board, chain, plan) in enumerate(self._each()):
            (measured, predicted), front = own[k], chain.shares()[0]
            decision = explained([past.fronts[k].decision for past in tries], predicted)
            border = replace(self._border(plan.end, (board.name,)), segment=front.pieces[-1].segment.name)
            record = Split(self._id(), "front", self.wanted.tail.name, (border,))
            out.append(Settled(board, decision, front, measured, Path(board.name), split=record))
        tail, (measured, predicted) = self.wanted.tail, whole
        decision = explained([past.tail for past in tries], predicted)
        record = Split(self._id(), "tail", tail.name, tuple(self._border(unit) for unit in self.plan.borders))
        return [*out, Settled(tail, decision, self.tail, measured, Path(tail.name), split=record)]

    def _each(self) -> list[tuple[Board, Stage, StagePlan]]:
        """The boards with fronts, each with the chain of its front and the tail, and its plan."""
        boards = [front.board for front in self.wanted.fronts]
        return list(zip(boards, self.chains, self.plan.fronts, strict=True))

    def _border(self, unit: int, devices: tuple[str, ...] = ()) -> Border:
        """Of some devices; of all that end there where none are named."""
        all_of = tuple(board.name for board, _, plan in self._each() if plan.end == unit)
        return border_of(self.prepared, self.tail, unit, self.behind(unit), devices or all_of)

    def _id(self) -> str:
        keys = [asdict(stage.key) for stage in (*self.chains, self.tail)]
        same = json.dumps([self.prepared.captured.source_sha256, self.prepared.sequence, keys])
        return f"split-{hashlib.sha256(same.encode()).hexdigest()[:12]}"


def _smaller(wanted: BoardSplit, plan: SplitPlan, over: Sequence[int]) -> BoardSplit:
    """The same with less for the boards that take more than their budget; ranks stay as they were."""
    decisions = [*(front.decision for front in plan.fronts), plan.tail]
    boards = [
        replace(b, budget_bytes=b.budget_bytes - (excess + MARGIN_BYTES if excess > 0 else 0), rank=decision.rank)
        for b, excess, decision in zip(wanted.boards, over, decisions, strict=True)
    ]
    fronts = (replace(front, board=board) for front, board in zip(wanted.fronts, boards, strict=False))
    return BoardSplit(tuple(fronts), boards[-1])


def _still_too_large(worst: str, plans: int) -> str:
    return (
        f"expected graphs within the budget of every board, found {worst}, with plan {plans} and no other; "
        "give it a larger --budget, or take a smaller --sequence"
    )
