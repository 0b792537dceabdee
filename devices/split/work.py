"""What a plan of a fleet is made of: a model with its slots, boards with their speed, and what a round asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from devices.plan import STEP_ITEMS, Board
from devices.ranks import LARGEST_RANK
from devices.split.fleet_plan import Coding, Labels, Objective, Trainer
from devices.times import Speed
from devices.units import Unit

WHOLE = 1_000_000_000  # parts of the importance of all slots: sums of whole numbers are exact, and ties are ties
RANKS = (1, 2, 4, 8, LARGEST_RANK)  # that a slot may get
STEPS = 8  # of a round, as the hub opens one
BATCHES = (1, 2, 4, 8, 16, 32, 64)  # items of a step, where the time is to be equal
SPRY_RUNS = 16  # forward runs of a step of differences: two for each of eight directions
# bytes of a float32 on its way, as a fraction: int8 has a scale for each row, of some hundred values
CODED: Mapping[Coding, tuple[int, int]] = {"float32": (1, 1), "float16": (1, 2), "int8": (26, 100), "": (0, 1)}

Units = Sequence[Unit]


@dataclass(frozen=True)
class SlotWork:
    """A place for an adapter.

    Attributes:
        name: as the manifest calls it.
        unit: the last unit that uses it; a front has the slot where its border lies behind.
        values_per_rank: in + out.
        weight_values: of the weight beside it; importance is uniform per value where nobody measured any.
    """

    name: str
    unit: int
    values_per_rank: int
    weight_values: int = 1


@dataclass(frozen=True)
class ModelWork:
    """A model in numbers.

    Attributes:
        units: by micro-batch and mode; all have the same units, with the numbers of their graphs.
        slots: in the order of their units.
        head_values: of an auxiliary head that a front trains without its tail: hidden size times classes.
    """

    units: Mapping[tuple[int, str], Units]
    slots: tuple[SlotWork, ...]
    head_values: int = 0

    @property
    def micro_batches(self) -> tuple[int, ...]:
        """Those that there are numbers of, the largest first."""
        return tuple(sorted({micro for micro, _ in self.units}, reverse=True))

    def units_at(self, micro_batch: int) -> Units:
        """Those of a micro-batch, as they train where that can be."""
        return self.units[micro_batch, "train" if (micro_batch, "train") in self.units else "train-forward"]


@dataclass(frozen=True)
class Member:
    """A board of the fleet.

    Attributes:
        board: its budget, and its rank where one is given: then no slot gets another.
        speed: its rates, its link among them.
        quants: formats that its weights may have, by what the units call them; the one that is preferred first.
        trainers: that it may use.
    """

    board: Board
    speed: Speed
    quants: tuple[str, ...] = ("int8",)
    trainers: tuple[Trainer, ...] = ("backprop", "split", "local", "forward", "spry")

    @property
    def ranks(self) -> tuple[int, ...]:
        """That a slot may get here."""
        return RANKS if self.board.rank is None else (self.board.rank,)

    def stored(self, quant: str, mode: str = "train") -> Board:
        """The board with a format, and without adapters: they are counted slot by slot."""
        return replace(self.board, quant=quant, mode=mode, rank=0)


@dataclass(frozen=True)
class Terms:
    """What a round asks for.

    Attributes:
        objective: "importance": the most of it covered by every board, at one batch. "time": equal round times.
        steps: of a round.
        batches: items of a step, of which "time" chooses; "importance" takes the largest.
        deadline_ns: of a round; None to find the least one.
        items: that the fleet learns from in a round at least, each counted by the share that its board covers; for
            "time" without a deadline.
        coding: of what crosses between front and tail.
        labels: whether they go along.
    """

    objective: Objective = "importance"
    steps: int = STEPS
    batches: tuple[int, ...] = (STEP_ITEMS,)
    deadline_ns: int | None = None
    items: int = 0
    coding: Coding = "int8"
    labels: Labels = "along"


def shares(slots: Sequence[SlotWork], importance: Mapping[str, float] | None = None) -> dict[str, int]:
    """The importance of each slot in parts of `WHOLE`.

    Args:
        slots: of the model.
        importance: by name, none negative; all are equal where all are 0; None for uniform per value of the weight.

    >>> shares([SlotWork("a", 0, 8, weight_values=100), SlotWork("b", 1, 8, weight_values=300)])
    {'a': 250000000, 'b': 750000000}
    """
    raw = {slot.name: float(slot.weight_values) for slot in slots} if importance is None else importance
    total = sum(raw.get(slot.name, 0.0) for slot in slots)
    if not total:  # nothing matters, so nothing matters more
        return {slot.name: WHOLE // len(slots) for slot in slots}
    return {slot.name: int(WHOLE * raw.get(slot.name, 0.0) / total) for slot in slots}


@dataclass(frozen=True)
class Importance:
    """Of each slot, in parts of `WHOLE`, and where it is from."""

    of: Mapping[str, int] = field(default_factory=dict)
    source: str = "uniform"
