"""Where to cut a model for one board: fewest segments, exactly, by dynamic programming (docs/plan.md).

Plain numbers in, a decision out. The objective, in this order: fewest segments, largest micro-batch, fewest
boundary bytes; the constraint: every segment's predicted peak is within the budget. Micro-batches come before
cuts because a smaller one costs at most a third of the time and a cut runs every boundary through memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from console.errors import DoesNotFit
from console.table import mib, shown
from devices.covers import UNREACHED, Table
from devices.enough import KnownBoard, held_by, smallest_budget, that_would_do
from devices.memory import Need, adapter_bytes, stored_bytes
from devices.ranks import LARGEST_RANK, rank_for
from devices.speed import GENERIC, Cpu
from devices.trunk import trunk_cut
from devices.units import Stretch, Unit, boundary

MICRO_BATCHES = (8, 4, 2, 1)
STEP_ITEMS = 16  # items whose boundary tensors wait between segments: a trainer's batch


@dataclass(frozen=True)
class Board:
    """What is planned for. `rank` None means: by memory; `profile` is empty, the runtime None where nobody knows.

    `trunk` "apart" asks for a cut below the lowest slot; "auto" is for who compares plans with and without.
    `adapter_values` are of all adapters of the board, where slots have ranks of their own; `rank` then sizes none.
    """

    name: str
    budget_bytes: int
    mode: str = "train"
    quant: str = "int8"
    rank: int | None = None
    profile: str = ""
    onnxruntime_max: str | None = None
    cpu: Cpu = GENERIC
    trunk: str = "within"
    adapter_values: int | None = None


@dataclass(frozen=True)
class Decision:
    """Cut c lies before unit c; one predicted peak per segment; the reasons, as sentences.

    `formats` are those of weights, by name, where each has its own.
    """

    cuts: tuple[int, ...]
    micro_batch: int
    rank: int
    predicted_bytes: tuple[int, ...]
    reasons: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)


def plan(
    units: Sequence[Unit],
    board: Board,
    micro_batches: Sequence[int] = MICRO_BATCHES,
    step_items: int = STEP_ITEMS,
    known: Sequence[KnownBoard] | None = None,
) -> Decision:
    """Decide cuts, micro-batch and rank for a board.

    Args:
        units: the model, in order; legal cuts lie between neighbours.
        board: budget, mode, format, and rank if it is given.
        micro_batches: allowed ones, largest first.
        step_items: items whose boundary tensors wait between segments.
        known: boards that a refusal may name; None where nobody has looked.

    Raises:
        DoesNotFit: no cut fits at any micro-batch; names what would do.
        UsageError: the trunk is to be apart, and there is none.
    """
    ranked = with_budget(board, board.budget_bytes)
    found: tuple[int, int, tuple[int, ...]] | None = None
    tried: list[str] = []
    for micro_batch in micro_batches:
        cuts = fewest_cuts(units, ranked, micro_batch, step_items)
        if cuts is None:
            tried.append(f"micro-batch {micro_batch}: no cut fits")
            continue
        tried.append(f"micro-batch {micro_batch}: {_segments(len(cuts) + 1)}")
        if found is None or len(cuts) < found[0]:
            found = (len(cuts), micro_batch, cuts)
        if not cuts:
            break
    if found is None:
        raise DoesNotFit(_refusal(units, board, micro_batches[-1], step_items, known))
    _, micro_batch, cuts = found
    predicted = tuple(n.total for n in needs(units, ranked, cuts, micro_batch, step_items))
    rank = ranked.rank or 0
    return Decision(cuts, micro_batch, rank, predicted, (*_reasons(ranked, board.rank, max(predicted)), *tried))


def costs_nothing(apart: Decision, plain: Decision) -> bool:
    """Whether a plan whose trunk is apart has the micro-batch of the other, a segment more, and no higher peak."""
    memory = max(apart.predicted_bytes) <= max(plain.predicted_bytes)
    return memory and apart.micro_batch == plain.micro_batch and len(apart.cuts) <= len(plain.cuts) + 1


def with_budget(board: Board, budget_bytes: int) -> Board:
    """A board with another budget, and with the rank that goes with that where none is given.

    >>> with_budget(Board("zero", 0), 200 << 20).rank, with_budget(Board("zero", 0, rank=5), 200 << 20).rank
    (2, 5)
    """
    rank = rank_for(budget_bytes) if board.rank is None else board.rank
    return replace(board, budget_bytes=budget_bytes, rank=rank)


def needs(
    units: Sequence[Unit],
    board: Board,
    cuts: Sequence[int],
    micro_batch: int,
    step_items: int = STEP_ITEMS,
    span: tuple[int, int] | None = None,
) -> list[Need]:
    """What each segment of a given cut needs; `board.rank` must be set. `span`: the units of this board, or all."""
    first, stop = span or (0, len(units))
    adapters = adapters_of(units[first:stop], board)
    out, waiting = [], 0
    for start, end in itertools.pairwise([first, *cuts, stop]):
        stretch = Stretch(board.quant, micro_batch, board.mode)
        for unit in units[start:end]:
            stretch.add(unit)
        entering, leaving = boundary(units, start) * step_items, boundary(units, end) * step_items
        waiting += entering
        stored = stored_bytes(board.mode, waiting, entering, leaving)
        out.append(Need(stretch.weights, stretch.ended, adapters, stored))
    return out


def fewest_cuts(
    units: Sequence[Unit], board: Board, micro_batch: int, step_items: int = STEP_ITEMS
) -> tuple[int, ...] | None:
    """Fewest cuts, then fewest boundary bytes, such that every segment fits; None if nothing does."""
    table = _divided(table_of(units, board, micro_batch, step_items, board.budget_bytes), units, board)
    return _fewest(table, units, board)


def _fewest(table: Table, units: Sequence[Unit], board: Board) -> tuple[int, ...] | None:
    count, room = len(units), board.budget_bytes - adapters_of(units, board)
    # a segment never needs less than a unit in it: most budgets that do not fit are told from this alone
    return table.covers(0, [count], room).get(count) if room >= table.largest_unit else None


def _divided(table: Table, units: Sequence[Unit], board: Board) -> Table:
    """The same without segments on both sides of where the trunk is to end."""
    if board.trunk == "apart":
        table.divide(trunk_cut(units))
    return table


def table_of(
    units: Sequence[Unit],
    board: Board,
    micro_batch: int,
    step_items: int,
    limit: int = UNREACHED,
    places: Sequence[int] | None = None,
) -> Table:
    """What every segment needs on a board of this mode and format.

    Args:
        units: the model.
        board: its mode and format count.
        micro_batch: items per run.
        step_items: see `plan`.
        limit: more than anybody has.
        places: where segments may begin and end, from 0 to the number of units; anywhere if not given.
    """
    places = range(len(units) + 1) if places is None else places
    count = len(places) - 1
    need, ended = np.full((2, count, count + 1), UNREACHED, dtype=np.int64)
    for start in range(count):
        stretch = Stretch(board.quant, micro_batch, board.mode)
        for end in range(start + 1, count + 1):
            for unit in units[places[end - 1] : places[end]]:
                stretch.add(unit)
            need[start, end] = Need(stretch.weights, stretch.live).total
            if need[start, end] > limit:
                need[start, end] = UNREACHED
                break  # a longer stretch never needs less
            ended[start, end] = Need(stretch.weights, stretch.ended).total
    return Table(need, ended, [boundary(units, at) * step_items for at in places], waits=board.mode == "train")


def adapters_of(units: Sequence[Unit], board: Board) -> int:
    """Bytes that a board holds for some units whichever segment runs: adapters with their optimiser, and states."""
    values = board.adapter_values
    if values is None:
        values = sum(u.adapter_values_per_rank for u in units) * (board.rank or 0)
    adapters = adapter_bytes(values, 1, board.mode)
    return adapters + sum(u.state_bytes for u in units)


def most_needed(
    units: Sequence[Unit], board: Board, cuts: Sequence[int], micro_batch: int, step_items: int = STEP_ITEMS
) -> int:
    """What the largest segment of a given cut needs at the largest rank that the board may get."""
    largest = board if board.rank is not None else replace(board, rank=LARGEST_RANK)
    return max(need.total for need in needs(units, largest, cuts, micro_batch, step_items))


def _refusal(
    units: Sequence[Unit], board: Board, micro_batch: int, step_items: int, known: Sequence[KnownBoard] | None
) -> str:
    most = min(most_needed(units, board, cuts, micro_batch, step_items) for cuts in ((), range(1, len(units))))
    table = _divided(table_of(units, board, micro_batch, step_items, most), units, board)

    def cuts_within(budget_bytes: int) -> tuple[int, ...] | None:
        return _fewest(table, units, with_budget(board, budget_bytes))

    smallest = smallest_budget(lambda budget: cuts_within(budget) is not None, most) or most
    cuts = cuts_within(smallest) or ()
    found = needs(units, with_budget(board, smallest), cuts, micro_batch, step_items)
    largest = max(found, key=lambda need: need.total)
    piece = shown(units[[0, *cuts][found.index(largest)]].name)
    would = that_would_do(known, lambda budget: cuts_within(budget) is not None)
    ways = [f"a --budget of {smallest} bytes", "a smaller --sequence"]
    ways += ["--quant int8"] if board.quant == "fp32" else []
    ways += ["--mode serve"] if board.mode != "serve" else []
    return (
        f"expected {board.name} to run this model within its budget of {mib(board.budget_bytes)}, but the "
        f"smallest predicted need over all cuts is {mib(smallest)} at micro-batch {micro_batch} "
        f"(in the piece at {piece}: {held_by(largest)}){would}; try {', '.join(ways[:-1])} or {ways[-1]}"
    )


def _reasons(board: Board, given: int | None, largest: int) -> tuple[str, ...]:
    why = "" if given is not None else f" for a budget of {mib(board.budget_bytes)}"
    return (f"rank {board.rank}{why}", f"largest segment planned with {mib(largest)} of {mib(board.budget_bytes)}")


def _segments(count: int) -> str:
    return "one segment fits" if count == 1 else f"{count} segments at least"
