"""All ways to cover neighbouring units with segments that fit, and the best of them: the planner's one recurrence.

`best[k][j]` is the least sum of boundary bytes over all ways to cover the units before j with k fitting segments.
Only that least sum matters for what follows, because boundary tensors of earlier cuts only add to what a later
segment needs: so the recurrence is exact. Every level is one step over whole rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.int64]

UNREACHED = np.iinfo(np.int64).max // 4  # more than any budget, and twice it is still a number


class Table:
    """What every segment of a model needs on a kind of board, without adapters.

    Attributes:
        need: [n, n + 1] bytes of units s to e, exclusive, in a segment that holds them, without boundary tensors;
            `UNREACHED` where s >= e, or where nobody has so much.
        ended: the same of a segment that ends there, at least as much.
        boundary: [n + 1] bytes that wait at each cut; 0 at both ends.
        waits: whether a segment holds the boundaries of all earlier ones too, as training does.
        largest_unit: what the largest unit needs alone; no cover has segments that all need less.
    """

    def __init__(self, need: Bytes, ended: Bytes, boundary: Sequence[int], *, waits: bool) -> None:
        self.need, self.ended, self.waits = need, ended, waits
        self.largest_unit = int(np.diagonal(need, offset=1).max(initial=0))
        self.boundary = np.array(boundary, dtype=np.int64)
        self.fixed = ended + self.boundary[:-1, None] + self.boundary[None, :]
        np.minimum(self.fixed, UNREACHED, out=self.fixed)

    def of_items(self, items: int) -> Table:
        """The same where so many times the boundaries wait."""
        return Table(self.need, self.ended, [int(b) * items for b in self.boundary], waits=self.waits)

    def divide(self, place: int) -> None:
        """Have no segment lie on both sides of a cut."""
        self.fixed[:place, place + 1 :] = UNREACHED

    def fits(self, first: int, cuts: Sequence[int], last: int, room: int) -> bool:
        """Whether every segment of a cover of units `first` to `last`, exclusive, needs at most `room` bytes."""
        waiting = 0
        for start, end in zip((first, *cuts), (*cuts, last), strict=True):
            waiting += int(self.boundary[start]) if self.waits else 0
            if int(self.fixed[start, end]) + waiting > room:
                return False
        return True

    def covers(self, first: int, stops: Iterable[int], room: int) -> dict[int, tuple[int, ...]]:
        """For spans that begin at `first`: fewest cuts, then fewest boundary bytes, then earliest cuts.

        Args:
            first: where all spans begin.
            stops: where they end (exclusive); those that nothing fits are not in the answer.
            room: bytes that a segment may need, adapters taken off.
        """
        missing = set(stops)
        last = max(missing, default=first)
        fixed, boundary = self.fixed[first:last, first + 1 : last + 1], self.boundary[first : last + 1]
        starts, waiting = np.zeros(1, dtype=np.int64), boundary[:1]
        paths: list[tuple[int, ...]] = [()]  # the cuts before each start, its own included, in ascending order
        found: dict[int, tuple[int, ...]] = {}
        while missing and paths:
            total = fixed[starts] + waiting[:, None] if self.waits else fixed[starts]
            sums = np.where(total <= room, waiting[:, None] + boundary[None, 1:], UNREACHED)
            row = sums.argmin(axis=0)
            least = sums[row, np.arange(len(row))]
            reached = {int(end): paths[row[end]] for end in np.flatnonzero(least < UNREACHED)}
            found |= {end + first + 1: cuts for end, cuts in reached.items() if end + first + 1 in missing}
            missing -= found.keys()
            ahead = sorted((*cuts, end + first + 1) for end, cuts in reached.items() if end + first + 1 < last)
            starts = np.array([cuts[-1] - first for cuts in ahead], dtype=np.int64)
            waiting, paths = least[starts - 1], ahead
        return found
