"""The gate: a version that is worse than the one in use, on rows that boards kept back, is not rolled out.

Both versions are judged on the same rows, so per class the rows that only one of them gets right carry the difference
(McNemar, Psychometrika 1947, 12: 153-157), and their number its standard error; half a row is added to each of the
four cells, so that few rows are not taken for certainty (Agresti and Min, Statistics in Medicine 2005, 24: 729-740).
A board that does not say which rows these are is counted as if its rows were independent: that is the larger error.
Versions of a decoder are compared by their loss (`hub.rounds.gate_of_loss`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from console.table import percent
from hub.rounds.gate_of_loss import said_of, summed, verdict
from wire.scores import Score

NOISE = 1.645  # standard errors: of equally good versions one in twenty is refused
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What was decided and why: macro accuracies over summed counts, or losses of a token; None without rows."""

    released: bool
    candidate: float | None
    parent: float | None
    sentence: str
    error: float | None = None  # the standard error of the difference


@dataclass(frozen=True)
class Table:
    """Rows per class, over all boards: how many, and how many each version gets right, and both do."""

    count: Array
    new: Array
    old: Array
    both: Array

    @property
    def error(self) -> float:
        """The standard error of the difference of the macro accuracies.

        >>> rows = np.array([98.0])
        >>> round(Table(rows, rows - 10, rows - 10, rows - 10).error, 6), round(Table(rows, rows, rows, rows).error, 6)
        (0.01, 0.01)
        """
        seen = self.count > 0
        n, gained, lost = self.count[seen] + 2, (self.new - self.both)[seen] + 0.5, (self.old - self.both)[seen] + 0.5
        variance = ((gained + lost) / n - ((gained - lost) / n) ** 2) / n
        return float(np.sqrt(variance.sum()) / max(1, seen.sum()))

    def macro(self, right: Array) -> float:
        """The mean over the classes that were seen of the share that is right."""
        seen = self.count > 0
        return float((right[seen] / self.count[seen]).mean())


def tabulate(boards: Iterable[Sequence[Score]], candidate: str, parent: str) -> tuple[Table | None, int]:
    """The sum over boards and ranks, None without rows; and how many boards judged the two on different rows."""
    cells, left_out = [], 0
    for scores in boards:
        new, old = ({s.rank: s for s in scores if s.version == version} for version in (candidate, parent))
        if new.keys() != old.keys() or any(new[rank].count != old[rank].count for rank in new):
            left_out += 1
            continue
        cells += [_cells(new[rank], old[rank]) for rank in new]
    total = np.sum(cells, axis=0) if cells else np.zeros((4, 0))
    return Table(*total) if total[0].any() else None, left_out


def _cells(candidate: Score, parent: Score) -> Array:
    """[4, classes]: rows, right under the new version, under the old one, under both."""
    n, new, old = (np.array(x, np.float64) for x in (candidate.count, candidate.correct, parent.correct))
    independent = new * old / np.maximum(n, 1)
    both = np.array(parent.both, np.float64) if parent.both else independent
    # a board declares `both`: what is impossible is brought to the nearest that is not
    return np.stack([n, new, old, np.clip(both, np.maximum(0, new + old - n), np.minimum(new, old))])


def decide(
    boards: Iterable[Sequence[Score]],
    candidate: str,
    parent: str,
    tolerance: float = 0.0,
    noise: float = NOISE,
    labels: Sequence[str] = (),
) -> Decision:
    """Compare the scores of two versions on the same rows.

    Args:
        boards: the scores of each board, of both versions at one or more ranks.
        candidate: digest of the new version.
        parent: digest of the version that is in use.
        tolerance: by how much the macro accuracy may fall (0.01 is one point), or the loss rise, noise aside.
        noise: by how many standard errors of the difference it may do so beyond that.
        labels: names of the classes, for the sentence; a model without any is judged by its loss.
    """
    boards = [list(scores) for scores in boards]
    if any(score.tokens is not None for scores in boards for score in scores):
        return _by_loss(boards, candidate, parent, tolerance, noise)
    table, left_out = tabulate(boards, candidate, parent)
    aside = _aside(left_out)
    if table is None:
        return Decision(False, None, None, f"no board had rows to judge it by{aside}")
    new, old, error = table.macro(table.new), table.macro(table.old), table.error
    limit = noise * error
    released = new >= old - tolerance - limit
    found_so = verdict(new >= old - tolerance, released, "lower")
    found = (
        f"macro accuracy {percent(new)} after {percent(old)} on {int(table.count.sum())} rows that boards kept back "
        f"(noise {percent(limit)}): {found_so}"
    )
    return Decision(released, new, old, found + aside + _alarm(table, labels), error)


def _by_loss(
    boards: Iterable[Sequence[Score]], candidate: str, parent: str, tolerance: float, noise: float
) -> Decision:
    found, left_out = summed(boards, candidate, parent)
    if not found.tokens:
        return Decision(False, None, None, f"no board had texts to judge it by{_aside(left_out)}")
    released, new, old, words = said_of(found, tolerance, noise)
    return Decision(released, new, old, words + _aside(left_out), found.error)


def _aside(left_out: int) -> str:
    return f"; left out: {left_out} boards that judged the two versions on different rows" if left_out else ""


def _alarm(table: Table, labels: Sequence[str]) -> str:
    """A word on classes that the old version knew and the new one does not get right once."""
    fallen = np.flatnonzero((table.old > 0) & (table.new == 0)).tolist()
    names = [
        f"{labels[i] if i < len(labels) else f'class {i}'} (0 of {int(table.count[i])}, was {int(table.old[i])})"
        for i in fallen
    ]
    return f"; alarm: no row is right any more of {', '.join(names)}" if names else ""
