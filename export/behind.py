"""Models that no gradient goes all the way through, split: fronts that run forward only hold what has none.

A front without backward graphs needs the gradient of its border and nothing below it (`edge.split.differences`). So
where the adapters' way to the loss leads through an operator without a rule, the tail goes back as far as the first
cut behind the last such operator, and every front ends there or later.
"""

from __future__ import annotations

from bisect import bisect_right

import onnx_ir as ir

from console.errors import join
from console.table import shown
from devices.fronts import FORWARD, BoardSplit
from export.gradient.path import NoGradientRule
from export.prepare import Prepared

MODE = "train"


def going_back(prepared: Prepared, wanted: BoardSplit) -> Prepared:
    """The model as its tail goes back: as it is where gradients reach everything, else from a cut on.

    Raises:
        NoGradientRule: a front is to go back through an operator without a rule or ends before it, or no cut lies
            behind; with the front that would do.
    """
    batch = prepared.batches[0]
    try:
        prepared.cost(batch, MODE)
    except NoGradientRule as refusal:
        unit = _behind(prepared, batch, refusal)
        _refuse(prepared, wanted, refusal, unit)
        return prepared.behind(unit)
    return prepared


def _behind(prepared: Prepared, batch: int, refusal: NoGradientRule) -> int:
    """The first unit that gradients come back to."""
    positions = prepared.cost(batch, FORWARD).positions
    unit = bisect_right(positions, max(refusal.at)) + 1
    if unit > len(positions):
        raise NoGradientRule(
            f"{refusal} No cut lies behind, so no front can hold what has no rule and leave the loss to a tail.",
            refusal.at,
        ) from refusal
    return unit


def _refuse(prepared: Prepared, wanted: BoardSplit, refusal: NoGradientRule, unit: int) -> None:
    back = [front.board.name for front in wanted.fronts if front.board.mode != FORWARD]
    early = [front for front in wanted.fronts if front.border is not None and front.border < unit]
    batch = prepared.batches[0]
    where = f"unit {unit} ({shown(prepared.cost(batch, FORWARD).units[unit].name)})"
    if back:
        raise NoGradientRule(
            f"{refusal} Fronts that run forward only may hold them, where the tail goes on at {where} or later: give "
            f"{', '.join(back)} --mode {FORWARD}.",
            refusal.at,
        ) from refusal
    if early:
        nodes = list(prepared.frozen(batch).graph)
        name, border = early[0].board.name, early[0].border
        raise NoGradientRule(
            f"Expected the front of {name} to end at {where} or later, behind every operator without a gradient rule "
            f"({join([_called(nodes[place]) for place in refusal.at], 8)}), found unit {border}: the tail would go "
            f"back through it; give --split {name}={unit}, or --split {name}.",
            refusal.at,
        ) from refusal


def _called(node: ir.Node) -> str:
    return f"{node.op_type} at {node.name or node.outputs[0].name}"
