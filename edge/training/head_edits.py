"""Which change of a head mends an answer: the closed form at several spreads and margins, judged on calibration rows.

Of those that keep the loss of right calibration rows within the bound, the one that gets most paraphrases right; among
equals the largest spread (what calibration has not seen is safest with it on the rows that it has), then the largest
margin, so that boards whose formats compute a little differently see the same answer. Paraphrases only judge, unless
the input alone does not reach them: then they are fitted too, and it is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.trainers.head_edit import Float64, Moment, least_change, moment, solve
from edge.trainers.interface import Array
from wire.kinds.edit import HeadEdit
from wire.ladder import Factored, refactor

SPREADS = tuple(10.0**power for power in range(2, -5, -1))  # times the mean of the moment's values
MARGINS = (1.0, 0.5, 0.25)  # times the usual lead of a right answer
STRENGTH = 1e-3
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Outputs:
    """What a model makes of samples: features [n, D], logits [n, C]."""

    features: Array
    logits: Array


@dataclass(frozen=True)
class Wish:
    """What is wanted: rows of `asked` are the input, then its paraphrases; all are to have the label.

    Attributes:
        asked: outputs of them.
        label: the one that they should have.
        known: outputs of calibration rows.
        labels: of these, [n].
        bound: the share of these that may be lost.
        rank: of the change, at most.
    """

    asked: Outputs
    label: int
    known: Outputs
    labels: Labels
    bound: float
    rank: int


@dataclass(frozen=True)
class Found:
    """An edit, and what it does by the logits that it gives: `lost` calibration rows, `within` the bound or not."""

    edit: HeadEdit
    right: bool
    paraphrases_right: int
    lost: int
    fitted: bool
    within: bool

    @property
    def worth(self) -> tuple[bool, bool, int, int]:
        """More is better; what is lost counts as long as it is too much."""
        return self.right, self.within, 0 if self.within else -self.lost, self.paraphrases_right


def found(wish: Wish) -> Found:
    """The best edit for a wish, whether or not it is good enough: the gate decides that."""
    known, lead = moment(wish.known.features), usual_lead(wish)
    best = _best(wish, known, lead, 1)
    paraphrases = len(wish.asked.logits) - 1
    if best.right and best.within and best.paraphrases_right == paraphrases:
        return best
    fitted = _best(wish, known, lead, paraphrases + 1)
    return fitted if fitted.worth > best.worth else best


def usual_lead(wish: Wish) -> float:
    """By how much right answers to calibration rows lead: the median; 1 without any."""
    leads = leads_of(wish.known.logits, wish.labels)
    right = leads[leads > 0]
    return float(np.median(right)) if len(right) else 1.0


def leads_of(logits: Array, labels: Labels) -> Float64:
    """By how much the logit of each row's label is above the largest other: [n]."""
    rows, others = np.arange(len(labels)), logits.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return np.asarray(own - others.max(axis=1, initial=-np.inf))


def _best(wish: Wish, known: Moment, lead: float, rows: int) -> Found:
    """The best of all spreads and margins, fitted to the first `rows` of what is asked."""
    inputs, logits = (part[:rows].astype(np.float64) for part in (wish.asked.features, wish.asked.logits))
    size = known.mean or 1.0
    best: Found | None = None
    for spread in SPREADS:
        for margin in MARGINS:
            targets = np.stack([least_change(row, wish.label, margin * lead) for row in logits])
            cut = refactor(*solve(known, inputs, targets, spread * size, STRENGTH), wish.rank)
            made = _judged(wish, _edit(cut), rows > 1)
            best = made if best is None or made.worth > best.worth else best
    if best is None:
        raise AssertionError("there are spreads and margins")
    return best


def _edit(change: Factored) -> HeadEdit:
    """A change as it is sent; where nothing need change, a column of 0, since a file has no empty factors."""
    if not change.rank:
        return HeadEdit(np.zeros((len(change.u), 1), np.float32), np.zeros((1, change.vt.shape[1]), np.float32))
    return HeadEdit(change.u.astype(np.float32), (change.s[:, None] * change.vt).astype(np.float32))


def _judged(wish: Wish, edit: HeadEdit, fitted: bool) -> Found:
    change = edit.product()
    asked = wish.asked.logits + wish.asked.features @ change
    known = wish.known.logits + wish.known.features @ change
    was, now = wish.known.logits.argmax(axis=1) == wish.labels, known.argmax(axis=1) == wish.labels
    right, lost = asked.argmax(axis=1) == wish.label, int(np.sum(was & ~now))
    within = lost <= wish.bound * len(wish.labels) + 1e-9
    return Found(edit, bool(right[0]), int(right[1:].sum()), lost, fitted, within)
