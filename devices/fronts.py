"""Boards that hold the front of a model each, and one board that holds it whole: who ends where (docs/split.md).

A front is the units from the first to its *border*. Borders may differ from board to board; the tail is cut at every
one of them, so that it can go on after each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from console.errors import DoesNotFit, UsageError
from console.table import mib, shown
from devices.across import StagePlan
from devices.covers import Table
from devices.enough import KnownBoard, held_by, smallest_budget, that_would_do
from devices.memory import Need
from devices.plan import STEP_ITEMS, Board, Decision, adapters_of, most_needed, needs, table_of, with_budget
from devices.thin import crossing
from devices.units import Unit

FORWARD = "train-forward"
Models = Mapping[int, Sequence[Unit]]  # by micro-batch


@dataclass(frozen=True)
class Front:
    """A board that holds the units before `border`; None: as many as it can train as one segment."""

    board: Board
    border: int | None = None


@dataclass(frozen=True)
class BoardSplit:
    """Boards with fronts, and the one that goes on after all of them."""

    fronts: tuple[Front, ...]
    tail: Board

    @property
    def boards(self) -> tuple[Board, ...]:
        """All of them, the tail last."""
        return (*(front.board for front in self.fronts), self.tail)


@dataclass(frozen=True)
class SplitPlan:
    """What each board runs; the cuts of the tail are the borders, and those that its own memory asks for."""

    fronts: tuple[StagePlan, ...]
    tail: Decision

    @property
    def micro_batch(self) -> int:
        """Of all boards."""
        return self.tail.micro_batch

    @property
    def borders(self) -> tuple[int, ...]:
        """Where fronts end, each once."""
        return tuple(sorted({front.end for front in self.fronts}))


def as_tail(board: Board) -> Board:
    """The board as a tail: it goes back, even where all boards are told to run forward only."""
    return replace(board, mode="train") if board.mode == FORWARD else board


def split(
    models: Models,
    wanted: BoardSplit,
    step_items: int = STEP_ITEMS,
    known: Sequence[KnownBoard] | None = None,
    forward: Models | None = None,
    lowest: int = 0,
) -> SplitPlan:
    """Decide where fronts end.

    Args:
        models: the units by allowed micro-batch; legal cuts lie between neighbours.
        wanted: the boards. A border that is given is kept, in as few segments as fit. Without one the front is one
            segment, and leaves an adapter to the tail where it can: of the borders that fit and have at least half of
            the arithmetic of the deepest one, the latest that at most a quarter more bytes cross than the one with
            least. The micro-batch is the largest at which every front trains at least one adapter.
        step_items: items whose boundary tensors wait between segments.
        known: boards that a refusal may name; None where nobody has looked.
        forward: the units as boards of mode "train-forward" run them; None: as all others.
        lowest: no border that is chosen lies before this unit.

    Raises:
        DoesNotFit: a board holds no front at any micro-batch, or the tail does not fit; names what would do.
        UsageError: a border that is none, or below every adapter.
    """
    smallest = min(models)
    for front in wanted.fronts:
        _require_border(models[smallest], front)
    for batch in sorted(models, reverse=True):
        search = _Search(models[batch], batch, step_items, None if forward is None else forward[batch], lowest)
        ends = [(front, search.end(front)) for front in wanted.fronts]
        short = [front for front, end in ends if end is None]
        cuts = search.cuts_of_tail(wanted.tail, [end for _, end in ends if end is not None])
        if not short and cuts is not None:
            fronts = tuple(search.front(front, end) for front, end in ends if end is not None)
            return SplitPlan(fronts, search.tail(wanted.tail, cuts, len(fronts)))
    raise DoesNotFit(search.too_small(short, known) if short else search.no_tail(wanted.tail, known))


def ends_of(units: Sequence[Unit], least: int = 0) -> range:
    """Where a front may end: with an adapter in it, and something left for the tail; not before unit `least`.

    >>> def unit(slot):
    ...     return Unit("", {}, 0, 0, 8, slot)
    >>> ends_of([unit(0), unit(4), unit(0), unit(4)])
    range(2, 4)
    """
    lowest = next((k for k, unit in enumerate(units) if unit.adapter_values_per_rank), len(units))
    return range(max(lowest + 1, least), len(units))


def _require_border(units: Sequence[Unit], front: Front) -> None:
    ends, name = ends_of(units), front.board.name
    if not ends:
        raise UsageError(
            "expected a legal cut above the lowest adapter of this model, found none; choose other --adapter-targets"
        )
    if front.border is not None and front.border not in ends:
        raise UsageError(
            f"expected the border of {name} at unit {ends[0]} to {ends[-1]} of {len(units)} (a front trains an adapter "
            f"and leaves a tail), found {front.border}; give another, or auto"
        )


class _Search:
    """One micro-batch."""

    def __init__(
        self,
        units: Sequence[Unit],
        micro_batch: int,
        step_items: int,
        forward: Sequence[Unit] | None = None,
        lowest: int = 0,
    ) -> None:
        self.units, self.micro_batch, self.step_items = units, micro_batch, step_items
        self.ends = ends_of(units, lowest)
        self.forward = forward or units
        self._tables: dict[tuple[str, str], Table] = {}
        below = [0]
        for unit in units:
            below.append(below[-1] + unit.flops_per_item)
        self.below = below

    def end(self, front: Front) -> int | None:
        """Where a front ends; None if it does not fit."""
        board = with_budget(front.board, front.board.budget_bytes)
        if front.border is not None:
            return None if self._cuts(board, front.border) is None else front.border
        fitting = [end for end in self.ends if self._whole(board, end)]
        if not fitting:
            return None
        highest = max(k for k, unit in enumerate(self.units) if unit.adapter_values_per_rank)
        fitting = [end for end in fitting if end <= highest] or fitting  # so that the tail trains an adapter, too
        deep = [end for end in fitting if 2 * self.below[end] >= self.below[fitting[-1]]]
        least = min(crossing(self.units, end) for end in deep)
        return max(end for end in deep if 4 * crossing(self.units, end) <= 5 * least)

    def cuts_of_tail(self, tail: Board, borders: Iterable[int]) -> tuple[int, ...] | None:
        """All cuts of the tail; None if it does not fit."""
        board = with_budget(tail, tail.budget_bytes)
        table = table_of(self.units, board, self.micro_batch, self.step_items)
        for border in borders:
            table.divide(border)
        count = len(self.units)
        return table.covers(0, [count], board.budget_bytes - adapters_of(self.units, board)).get(count)

    def front(self, front: Front, end: int) -> StagePlan:
        """What a board runs, with reasons."""
        board = with_budget(front.board, front.board.budget_bytes)
        cuts = self._cuts(board, end) or ()
        found = self._needs(board, cuts, end)
        predicted = tuple(need.total for need in found)
        share = self.below[end] / max(1, self.below[-1])
        chosen = "as it was asked for" if front.border is not None else "the deepest that fits as one segment"
        reasons = (
            *_ranked(board, front.board),
            f"largest segment {mib(max(predicted))} of {mib(board.budget_bytes)}",
            f"front of {end} of {len(self.units)} units, {chosen}: {share:.0%} of the arithmetic",
            f"{crossing(self.units, end)} bytes of an item cross the border",
            *(("no backward graphs: it learns by differences of forward passes",) if board.mode == FORWARD else ()),
        )
        return StagePlan(0, end, Decision(cuts, self.micro_batch, board.rank or 0, predicted, reasons))

    def tail(self, tail: Board, cuts: tuple[int, ...], fronts: int) -> Decision:
        """What the tail runs."""
        board = with_budget(tail, tail.budget_bytes)
        predicted = tuple(n.total for n in needs(self.units, board, cuts, self.micro_batch, self.step_items))
        each = mib(adapters_of(self.units, board))
        reasons = (
            *_ranked(board, tail),
            f"largest segment {mib(max(predicted))} of {mib(board.budget_bytes)}",
            f"tail of {fronts} {'front' if fronts == 1 else 'fronts'}, each with {each} of adapters while it trains",
        )
        return Decision(cuts, self.micro_batch, board.rank or 0, predicted, reasons)

    def too_small(self, short: Sequence[Front], known: Sequence[KnownBoard] | None) -> str:
        """Why boards hold no front, and what would do: of several the one that is short by least comes first."""
        ways = sorted(((self._smallest(one) - one.board.budget_bytes, k) for k, one in enumerate(short)))
        told = [self._one_too_small(short[k], known) for _, k in ways]
        others = [short[k].board.name for _, k in ways[1:]]
        more = f"; {', '.join(others)} would need more as well" if others else ""
        return told[0] + more

    def _one_too_small(self, front: Front, known: Sequence[KnownBoard] | None) -> str:
        board, smallest = front.board, self._smallest(front)
        end = front.border or self._shallowest(board, smallest)
        raised = with_budget(board, smallest)
        cuts = self._cuts(raised, end) or ()
        need = max(self._needs(raised, cuts, end), key=lambda need: need.total)
        would = that_would_do(known, lambda budget: self._fits(front, budget), " in its place")
        which = f"up to unit {end}" if front.border else f"with an adapter in it, up to {shown(self.units[end].name)},"
        fewer = "" if front.border is None else f"a border before unit {end}, "
        forward = replace(front, board=replace(board, mode=FORWARD))
        fits = board.mode != FORWARD and self._fits(forward, board.budget_bytes)
        fewer += f"--mode {FORWARD} (such a front fits, and learns by differences), " if fits else ""
        return (
            f"expected a front of this model to train on {board.name} within {mib(board.budget_bytes)}, but the "
            f"smallest {which} needs {mib(smallest)} at micro-batch {self.micro_batch} ({held_by(need)}){would}; try "
            f"{fewer}--budget {board.name}={smallest}, a smaller --sequence, or --quant int4"
        )

    def no_tail(self, tail: Board, known: Sequence[KnownBoard] | None) -> str:
        """Why the tail does not fit."""
        every = range(1, len(self.units))
        most = max(most_needed(self.units, tail, cuts, self.micro_batch, self.step_items) for cuts in ((), every))

        def enough(budget: int) -> bool:
            return self.cuts_of_tail(replace(tail, budget_bytes=budget), ()) is not None

        smallest = smallest_budget(enough, most) or most
        would = that_would_do(known, enough, " in its place")
        return (
            f"expected {tail.name} to hold the whole model as tail within {mib(tail.budget_bytes)}, but it needs "
            f"{mib(smallest)} at micro-batch {self.micro_batch}{would}; try --budget {tail.name}={smallest}, or a "
            "larger machine as --tail"
        )

    def _smallest(self, front: Front) -> int:
        end = front.border or len(self.units) - 1
        largest = replace(front.board, rank=front.board.rank or 1024)
        most = max(need.total for need in self._needs(largest, (), end))
        return smallest_budget(lambda budget: self._fits(front, budget), 2 * most) or most

    def _shallowest(self, board: Board, budget_bytes: int) -> int:
        raised = with_budget(board, budget_bytes)
        return next(end for end in self.ends if self._whole(raised, end))

    def _fits(self, front: Front, budget_bytes: int) -> bool:
        return self.end(replace(front, board=replace(front.board, budget_bytes=budget_bytes))) is not None

    def _whole(self, board: Board, end: int) -> bool:
        """Whether a front fits as one segment; the rank of the board must be set."""
        return self._table(board).fits(0, (), end, board.budget_bytes - adapters_of(self.units[:end], board))

    def _cuts(self, board: Board, end: int) -> tuple[int, ...] | None:
        room = board.budget_bytes - adapters_of(self.units[:end], board)
        return self._table(board).covers(0, [end], room).get(end)

    def _table(self, board: Board) -> Table:
        key = (board.mode, board.quant)
        if key not in self._tables:
            self._tables[key] = table_of(self._units(board), board, self.micro_batch, self.step_items)
        return self._tables[key]

    def _needs(self, board: Board, cuts: Sequence[int], end: int) -> list[Need]:
        return needs(self._units(board), board, cuts, self.micro_batch, self.step_items, (0, end))

    def _units(self, board: Board) -> Sequence[Unit]:
        return self.forward if board.mode == FORWARD else self.units


def _ranked(board: Board, given: Board) -> tuple[str]:
    why = "" if given.rank is not None else f" for a budget of {mib(board.budget_bytes)}"
    return (f"rank {board.rank}{why}",)
