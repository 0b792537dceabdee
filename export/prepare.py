"""A captured model with slots and head, frozen for the micro-batches that a plan may choose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from console.errors import DoesNotFit, UsageError
from devices.plan import MICRO_BATCHES, Board, Decision, fewest_cuts, plan, rank_for
from export.capture import capture
from export.cost import Cost, cost, uncuttable
from export.fold import freeze
from export.head import HeadSite, append_head
from export.quantize import Cache
from export.slots import SlotSite, insert_slots
from export.sources.captured import Captured


@dataclass
class Prepared:
    """What all boards of an export share. Graphs and numbers are made when they are first asked for."""

    captured: Captured
    sites: list[SlotSite]
    head: HeadSite
    classes: int
    sequence: int | None
    formats: tuple[str, ...]
    cache: Cache = field(default_factory=dict)
    _frozen: dict[int, ir.Model] = field(default_factory=dict)
    _costs: dict[tuple[int, str], Cost] = field(default_factory=dict)

    def frozen(self, batch: int) -> ir.Model:
        """The model for a micro-batch."""
        if batch not in self._frozen:
            self._frozen[batch] = freeze(self.captured.model, batch=batch, sequence=self.sequence)
        return self._frozen[batch]

    def cost(self, batch: int, mode: str) -> Cost:
        """Its numbers for the planner."""
        if (batch, mode) not in self._costs:
            self._costs[batch, mode] = cost(self.frozen(batch), batch, mode, self.formats, self.cache)
        return self._costs[batch, mode]

    def decide(self, board: Board) -> tuple[Decision, tuple[int, ...]]:
        """The plan of a board, and its cuts as node positions.

        `devices.plan` over the numbers of each micro-batch's own graph: parts that do not grow with the batch
        are then counted as they are.

        Raises:
            DoesNotFit: no cut fits at any micro-batch.
            NoGradientRule: mode "train", and an operator cannot be differentiated.
        """
        best: Decision | None = None
        ranked = replace(board, rank=rank_for(board.budget_bytes) if board.rank is None else board.rank)
        for batch in MICRO_BATCHES:
            units = self.cost(batch, board.mode).units
            if fewest_cuts(units, ranked, batch) is None:
                continue
            decision = plan(units, board, (batch,))
            if best is None or len(decision.cuts) < len(best.cuts):
                best = decision
            if not decision.cuts:
                break
        if best is None:
            raise self._refusal(board)
        return best, self.cost(best.micro_batch, board.mode).nodes(best.cuts)

    def _refusal(self, board: Board) -> DoesNotFit:
        """The planner's words for the smallest micro-batch, and why there are few cuts if that is why."""
        smallest = MICRO_BATCHES[-1]
        try:
            plan(self.cost(smallest, board.mode).units, board, (smallest,))
        except DoesNotFit as refusal:
            reason = uncuttable(self.frozen(smallest).graph)
            return DoesNotFit(f"{refusal}; {reason}") if reason else refusal
        raise AssertionError("fewest_cuts and plan disagree")


def prepare(
    source: str, task: str, classes: int, sequence: int | None, targets: str, formats: tuple[str, ...], work: Path
) -> Prepared:
    """Capture a model and put slots and head into it.

    Raises:
        UsageError: the sequence is longer than the model can place.
        UnsupportedModel, MissingDependency: see `capture`, `insert_slots` and `append_head`.
    """
    captured = capture(source, task, work)
    if captured.modality == "image":
        sequence = None
    elif sequence is not None and not 1 <= sequence <= captured.preprocess.parameters["max_length"]:
        longest = captured.preprocess.parameters["max_length"]
        raise UsageError(f"expected a --sequence of 1 to {longest} tokens for this model, found {sequence}")
    sites = insert_slots(captured.model, targets)
    head = append_head(captured.model, captured.hidden, captured.modality, classes)
    return Prepared(captured, sites, head, classes, sequence, formats)
