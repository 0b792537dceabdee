"""Ranks for what they cost: of every front the choices that no other one beats in size and importance at once.

Nemhauser and Ullmann, "Discrete dynamic programming and capital allocation", Management Science 15(9), 1969, slot by
slot in the order of the model: what is left after n slots is the frontier of the front that has n slots. So one sweep
serves all borders, all budgets and all deadlines, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.split.gain import gain
from devices.split.work import SlotWork

Ints = NDArray[np.int64]
MOST_POINTS = 1 << 15  # of a frontier; where there are more, the best of each of so many sizes go on


@dataclass(frozen=True, eq=False)
class Choices:
    """The choices of a front that are worth a look: `values` of all factors ascending, `covered` ascending with it."""

    values: Ints
    covered: Ints

    def within(self, room: int) -> int:
        """The index of the best choice of at most `room` values; -1 if there is none."""
        if room < 0:
            return -1
        return int(np.searchsorted(self.values, min(room, int(self.values[-1])), side="right")) - 1


class Frontier:
    """Frontiers of all fronts of a model, and the ranks that lead to their points.

    Attributes:
        exact: False where a frontier had to be thinned; what is lost is below a part in `MOST_POINTS` of the size.
    """

    def __init__(self, slots: Sequence[SlotWork], importance: Mapping[str, int], ranks: Sequence[int]) -> None:
        """`ranks` that a slot may get beside none; `importance` of each slot, whole numbers."""
        self.slots, self.options, self.exact = slots, (0, *ranks), True
        self._came: list[tuple[Ints, Ints]] = []
        values, covered = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._after = [Choices(values, covered)]
        for slot in slots:
            share = importance.get(slot.name, 0)
            more = np.array([slot.values_per_rank * rank for rank in self.options], np.int64)
            won = np.array([gain(share, rank) for rank in self.options], np.int64)
            values, covered = self._grown(values, covered, more, won)
            self._after.append(Choices(values, covered))

    def _grown(self, values: Ints, covered: Ints, more: Ints, won: Ints) -> tuple[Ints, Ints]:
        """Every choice with every rank of one slot more, those that are beaten left out."""
        sums, gains = (values[:, None] + more).reshape(-1), (covered[:, None] + won).reshape(-1)
        kept = np.lexsort((-gains, sums))
        before = np.append(-1, np.maximum.accumulate(gains[kept])[:-1])
        kept = kept[gains[kept] > before]
        if len(kept) > MOST_POINTS:
            self.exact = False
            step = -(-int(sums[kept[-1]]) // MOST_POINTS)
            # the last of each size is the best of it
            kept = kept[np.append(np.diff(sums[kept] // step) > 0, True)]
        self._came.append((kept // len(more), kept % len(more)))
        return sums[kept], gains[kept]

    def of(self, count: int) -> Choices:
        """The choices of the front with the first `count` slots; the first one has no adapters."""
        return self._after[count]

    def ranks(self, count: int, index: int) -> dict[str, int]:
        """The ranks of a choice, by slot; those without an adapter are left out."""
        found: dict[str, int] = {}
        for row in range(count - 1, -1, -1):
            parents, options = self._came[row]
            rank = self.options[int(options[index])]
            if rank:
                found[self.slots[row].name] = rank
            index = int(parents[index])
        return dict(reversed(found.items()))
