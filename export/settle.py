"""A plan that holds: graphs are made, measured, and planned again with less where they take more than predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from console.errors import DoesNotFit, VerificationError
from console.progress import Progress
from console.table import mib
from devices.memory import MIB, WORKER_BASE_BYTES, base_bytes
from devices.plan import Board, Decision, needs
from export.activations.saturation import needs_seven_bits
from export.buckets import beside, too_large
from export.formats.registry import ACTIVATIONS
from export.half_checks import rounds_half
from export.measure import Measurer
from export.prepare import Prepared
from export.stage import Key, Stage, build_stage, chosen, joined, measure_stage
from export.stage_checks import verify_stage
from export.values import value_bytes
from wire.borders import Split
from wire.manifest import Chain, Options

TRIES = 3
MARGIN_BYTES = MIB  # less than what is measured too much: two measurements differ by about this


@dataclass(frozen=True)
class Settled:
    """A board with graphs that fit it.

    Attributes:
        board: as it was asked for.
        decision: the plan that held.
        stage: its graphs.
        measured_bytes: what a worker takes at its largest segment.
        folder: of its bundle, below the export's.
        chain: which stage of a chain it is.
        split: which front it is, or whose tail.
    """

    board: Board
    decision: Decision
    stage: Stage
    measured_bytes: int
    folder: Path
    chain: Chain | None = None
    split: Split | None = None


class Stages:
    """Every different plan of an export once: built and measured, and verified when it is known to fit."""

    def __init__(self, prepared: Prepared, work: Path, bar: Progress) -> None:
        self.prepared, self.work, self.bar = prepared, work, bar
        self._measurer = Measurer(work, kind=prepared.captured.preprocess.kind)
        self._made: dict[Key, Stage] = {}
        self._joined: dict[tuple[Key, Path], Stage] = {}

    def get(self, board: Board, decision: Decision, positions: tuple[int, ...]) -> Stage:
        """The stage of a plan.

        Raises:
            VerificationError: a graph does not run.
            NoGradientRule: an operator cannot be differentiated.
        """
        formats = (chosen(board.quant, decision.formats),) if decision.formats else ()
        seven = board.quant in ACTIVATIONS and needs_seven_bits(board.cpu.isa)
        half = rounds_half(self.prepared.train_activations, [board])
        batch, others = decision.micro_batch, beside(self.prepared, decision.micro_batch)
        key = Key(board.mode, board.quant, batch, positions, formats, seven_bits=seven, half=half, beside=others)
        return self.made(key, decision.rank, board.name)

    def made(self, key: Key, rank: int, name: str) -> Stage:
        """The stage of a key, for a board or a chain that is called so.

        Raises:
            VerificationError, NoGradientRule: see `get`.
        """
        if key not in self._made:
            self.bar.say(f"building graphs for {name}")
            stage = build_stage(self.prepared, key, self.work / f"stage{len(self._made)}")
            self._made[key] = self._measured(stage, rank, name)
        return self._made[key]

    def front(self, key: Key, tail: Stage, at: int, rank: int, name: str) -> Stage:
        """A front and, after it, the segments of a tail from number `at` on: a chain of two shares.

        Raises:
            VerificationError, NoGradientRule: see `get`.
        """
        whole = replace(key, shares=(key.front, len(tail.pieces) - at))
        if (whole, tail.folder) not in self._joined:
            self.bar.say(f"building graphs for {name}")
            front = build_stage(self.prepared, key, self.work / f"front{len(self._joined)}")
            self._joined[whole, tail.folder] = self._measured(joined(front, tail, at, whole), rank, name)
        return self._joined[whole, tail.folder]

    def verify(self, name: str, stage: Stage, check: Callable[[Prepared, Stage], None] = verify_stage) -> None:
        """Check what a stage computes, with its final session options, if that was not done.

        Raises:
            VerificationError: a graph computes something else than it should.
        """
        if not stage.checks:
            self.bar.say(f"verifying graphs for {name}")
            check(self.prepared, stage)

    def _measured(self, stage: Stage, rank: int, name: str) -> Stage:
        self.bar.say(f"measuring graphs for {name}")
        measure_stage(self.prepared, stage, self._measurer, rank)
        return stage


def settle(prepared: Prepared, board: Board, stages: Stages) -> Settled:
    """Plan, make and measure until every segment is predicted and measured within the budget.

    A graph that takes more than planned is planned again, with a budget that is smaller by as much.

    Raises:
        DoesNotFit: no cut fits.
        VerificationError: the third plan is still measured above the budget, or computes something else.
    """
    target = board
    tries: list[Decision] = []
    taken = 0
    while True:
        try:
            decision, positions = prepared.decide(target)
        except DoesNotFit as refusal:
            if not tries:
                raise
            raise DoesNotFit(_still_too_large(board, taken, len(tries))) from refusal
        tries.append(decision)
        stage = stages.get(board, decision, positions)
        measured = measured_bytes(prepared, stage, board, decision)
        predicted = predicted_bytes(prepared, stage, board, decision)
        taken = max(measured, *predicted)
        over = taken - board.budget_bytes
        if over <= 0:
            stages.verify(board.name, stage)
            stage = fitting(prepared, stage, board, decision)
            explained_by = with_left_out(prepared, explained(tries, predicted), stage)
            return Settled(board, explained_by, stage, measured, Path(board.name))
        if len(tries) == TRIES:
            raise VerificationError(_still_too_large(board, taken, TRIES))
        target = replace(target, budget_bytes=target.budget_bytes - over - MARGIN_BYTES, rank=decision.rank)


def measured_bytes(
    prepared: Prepared, stage: Stage, board: Board, decision: Decision, span: tuple[int, int] | None = None
) -> int:
    """What a worker takes at its largest segment: its base, what the graph added, and what is held beside it.

    `span` are the units of a board that runs some of them only.
    """
    added = {name: peak.growth_bytes for name, peak in stage.peaks.items()}
    return max(_worker_bytes(prepared, stage, board, decision, span, added))


def predicted_bytes(
    prepared: Prepared, stage: Stage, board: Board, decision: Decision, span: tuple[int, int] | None = None
) -> tuple[int, ...]:
    """The same of every segment, as it is predicted from the graphs that were made (`export.predict`)."""
    base = base_bytes(prepared.captured.preprocess.kind)
    added = {name: sum(parts.values()) - base for name, parts in stage.predicted.items()}
    return _worker_bytes(prepared, stage, board, decision, span, added)


def fitting(
    prepared: Prepared, stage: Stage, board: Board, decision: Decision, span: tuple[int, int] | None = None
) -> Stage:
    """The stage without further buckets that are measured or predicted above the budget of the board."""
    kept, left_out = [], dict(stage.left_out)
    for other in stage.beside:
        measured = measured_bytes(prepared, other, board, decision, span)
        taken = max(measured, *predicted_bytes(prepared, other, board, decision, span))
        if taken <= board.budget_bytes:
            kept.append(other)
        else:
            left_out[other.bucket.name] = f"it takes {mib(taken)} of {mib(board.budget_bytes)} of {board.name}"
    return stage.with_buckets(kept, left_out)


def with_left_out(prepared: Prepared, decision: Decision, stage: Stage) -> Decision:
    """A decision whose reasons say which buckets that were asked for are not there."""
    absent = [f"no bucket {name}: {reason}" for name, reason in stage.left_out.items()]
    return replace(decision, reasons=(*decision.reasons, *too_large(prepared, decision.micro_batch), *absent))


def _worker_bytes(
    prepared: Prepared,
    stage: Stage,
    board: Board,
    decision: Decision,
    span: tuple[int, int] | None,
    added: Mapping[str, int],
) -> tuple[int, ...]:
    """Per segment what a worker takes whose graphs add so much, by file name."""
    units = prepared.cost(decision.micro_batch, board.mode).units
    ranked = replace(board, rank=decision.rank)
    held = needs(units, ranked, decision.cuts, decision.micro_batch, span=span)
    return tuple(
        WORKER_BASE_BYTES
        + max(added[path.name] - _reused(prepared, stage, path.name, options) for _, path, options in link.graphs())
        + need.adapters
        + need.stored
        for link, need in zip(stage.links, held, strict=True)
    )


def _reused(prepared: Prepared, stage: Stage, name: str, options: Options) -> int:
    """How much of what a run had is free again when the states that it returned are copied; an arena keeps all."""
    piece, kind = next((p, k) for p in stage.pieces for k in p.shipped if name == stage.file(p, k).name)
    outputs = piece.shipped[kind].graph.outputs
    states = {pair.output for pair in prepared.captured.states}
    copied = sum(value_bytes(value) for value in outputs if value.name in states)
    room = stage.predicted[name]["activations"] - sum(value_bytes(value) for value in outputs)
    return 0 if options.cpu_arena else min(copied, max(0, room))


def _still_too_large(board: Board, taken_bytes: int, plans: int) -> str:
    return (
        f"expected graphs within the budget {mib(board.budget_bytes)} of {board.name}, found "
        f"{mib(taken_bytes)} with plan {plans} and none that takes less; give a larger --budget or a smaller "
        "--sequence, or, where --plan decided, plan again with a smaller budget for this board"
    )


def explained(tries: list[Decision], predicted: tuple[int, ...]) -> Decision:
    """The last decision with the reasons of all, and with what is predicted from its graphs."""
    again = "above the budget, so planned again with less"
    before = [reason for decision in tries[:-1] for reason in (*decision.reasons, again)]
    return replace(tries[-1], reasons=(*before, *tries[-1].reasons), predicted_bytes=predicted)
