"""Mending a few wrong answers by a change of low rank, small enough that other answers stay as they are.

After Mitchell et al., "Fast Model Editing at Scale" (MEND), ICLR 2022, arXiv 2110.11309: the gradient of the loss on
what is to be mended has a rank of at most its tokens (section 3.1), so an edit is a pair of thin factors beside the
weight, and is undone by dropping them. MEND has a net that bends the gradient, which takes a training of its own; here
the gradient is taken as it is (`edge.trainers.sketch`), cut to a rank, and tried along W - t G:

1. the smallest t with which every row to be mended is right, by doubling and bisection with forward passes;
2. the sum of all changes so far is cut to the rank;
3. rows to be kept whose answer has changed join the rows to be mended, with the answer that they had, and so again,
   with the gradient of those among them that are not as they should be.

It ends where all that was wrong is right and no more than a share of the rows to be kept has changed; then the change
is made as small as it may be. Where that does not come about it declines, with the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, Declined
from edge.trainers.interface import Array
from edge.trainers.sketch import Factors, Product, beside, gradient
from wire.kinds.lora import Lora
from wire.ladder import refactor

Labels = NDArray[np.int64]
OVERSAMPLING = 8  # columns beyond the rank, as section 4.2 of the range finder's paper has it


@dataclass(frozen=True)
class Graphs:
    """What an edit asks of a model. Rows are numbered: those to be mended first, then those to be kept.

    Attributes:
        gradient: for factors, rows and a label for each: the sum of their losses, and the gradients of the factors.
        logits: for factors and rows: float32 [rows, classes].
    """

    gradient: Callable[[Factors, Sequence[int], Labels], tuple[float, Mapping[str, tuple[Array, Array]]]]
    logits: Callable[[Factors, Sequence[int]], Array]


@dataclass(frozen=True)
class Settings:
    """How far an edit may go.

    Attributes:
        rank: of the change, in every slot.
        bound: the share of rows to be kept whose answer may change.
        margin: by how much the logit of a mended answer leads the next.
        rounds: gradients that are taken at most.
        doublings: of t.
        bisections: of t, and of the whole change in the end.
        iterations: see `edge.trainers.sketch.gradient`.
        seed: of the first columns.
    """

    rank: int = 2
    bound: float = 0.01
    margin: float = 0.1
    rounds: int = 20
    doublings: int = 14
    bisections: int = 5
    iterations: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Edited:
    """An edit that passed.

    Attributes:
        factors: those that were held, bit for bit, with the edit's columns and rows behind them.
        change: the edit alone.
        mended: rows that were wrong and are right.
        changed: rows to be kept with another answer than before.
        kept: how many rows to be kept there were.
        divergence: mean Kullback-Leibler divergence of the answers to rows to be kept, from before to after.
        rounds: gradients that were taken.
        sentences: the same in words.
    """

    factors: dict[str, Lora]
    change: dict[str, Lora]
    mended: int
    changed: int
    kept: int
    divergence: float
    rounds: int
    sentences: tuple[str, ...] = ()


def edit(graphs: Graphs, held: Factors, wanted: Labels, kept: int, settings: Settings | None = None) -> Edited:
    """Mend rows.

    Args:
        graphs: the model.
        held: its factors by slot, where it may be changed; rank 0 will do.
        wanted: the right label of each row to be mended.
        kept: how many rows to be kept follow them.
        settings: how far to go.

    Raises:
        BadData: there is nothing to mend, or nowhere to do it.
        Declined: it cannot be done within the bound.
    """
    return _Editor(graphs, dict(held), wanted, kept, settings or Settings()).run()


class _Editor:
    """One edit under way: what is wanted of each row, and the change so far."""

    def __init__(self, graphs: Graphs, held: dict[str, Lora], wanted: Labels, kept: int, settings: Settings) -> None:
        if not held:
            raise BadData("expected slots for an edit, found none; export with --mode train")
        self.graphs, self.held, self.settings = graphs, held, settings
        self.mend, self.keep = list(range(len(wanted))), list(range(len(wanted), len(wanted) + kept))
        self.before = graphs.logits(held, self.keep) if kept else np.zeros((0, 1), np.float32)
        self.wanted = np.concatenate([wanted, self.before.argmax(axis=1)[:kept]]).astype(np.int64)
        self.change = {name: (np.zeros((len(f.a), 0)), np.zeros((0, f.b.shape[1]))) for name, f in held.items()}

    def run(self) -> Edited:
        """See `edit`."""
        if self.right(self.change, self.mend, 0.0):
            raise BadData("expected rows that the model gets wrong, found none; there is nothing to mend")
        watched = list(self.mend)  # rows that were once not as they should be
        for number in range(1, self.settings.rounds + 1):
            self.change = self.stepped(watched)
            flipped = self.flipped(self.change)
            if len(flipped) <= self.allowed and self.right(self.change, self.mend, 0.0):
                return self.ended(number)
            watched += [row for row in flipped if row not in watched]
        raise self.declined()

    @property
    def allowed(self) -> int:
        """How many rows to be kept may change."""
        return int(self.settings.bound * len(self.keep) + 1e-9)

    def stepped(self, watched: list[int]) -> dict[str, Product]:
        """The change after one more gradient, of the watched rows that are not as they should be."""
        point, losses, s = self.at(self.change), list[float](), self.settings
        missing = self.missing(self.change, watched)
        active = [row for row, short in zip(watched, missing, strict=True) if not short <= 0]

        def probe(factors: Factors) -> Mapping[str, tuple[Array, Array]]:
            loss, found = self.graphs.gradient(factors, active, self.wanted[active])
            losses.append(loss)
            return found

        found = gradient(probe, point, s.rank + OVERSAMPLING, iterations=s.iterations, seed=s.seed)
        downhill = {name: _cut(product, s.rank) for name, product in found.items()}
        steep = sum(float(np.sum((right @ right.T) * (left.T @ left))) for left, right in downhill.values())
        if not steep > 0:
            raise BadData("expected a gradient at the slots, found 0; the model needs a head, or edit other slots")

        def along(t: float) -> dict[str, Product]:
            return {name: _cut(product, s.rank) for name, product in _plus(self.change, downhill, -t).items()}

        return along(self.smallest(along, losses[0] / steep / 16, watched))

    def smallest(self, along: Callable[[float], dict[str, Product]], first: float, watched: list[int]) -> float:
        """The smallest t that makes all these rows right; else the one with which they miss the least."""
        t, below, tried = first, 0.0, list[tuple[float, float]]()
        for _ in range(self.settings.doublings):
            short = float(np.sum(self.missing(along(t), watched)))
            if short <= 0:
                break
            tried.append((short, t))
            below, t = t, 2 * t
        else:
            return min(tried)[1]
        for _ in range(self.settings.bisections if below else 0):
            middle = (below + t) / 2
            below, t = (middle, t) if np.any(self.missing(along(middle), watched) > 0) else (below, middle)
        return t

    def missing(self, change: Mapping[str, Product], rows: list[int]) -> NDArray[np.float64]:
        """By how much the logit of each row's label lacks the margin: [rows], 0 where it leads by enough."""
        leads = _leads(self.graphs.logits(self.at(change), rows), self.wanted[rows])
        return np.maximum(self.settings.margin - leads, 0.0)

    def right(self, change: Mapping[str, Product], rows: list[int], margin: float) -> bool:
        """Whether all rows lead by more than a margin."""
        return bool(np.all(_leads(self.graphs.logits(self.at(change), rows), self.wanted[rows]) > margin))

    def flipped(self, change: Mapping[str, Product]) -> list[int]:
        """Rows to be kept with another answer."""
        if not self.keep:
            return []
        answers = self.graphs.logits(self.at(change), self.keep).argmax(axis=1)
        return [row for row, answer in zip(self.keep, answers, strict=True) if answer != self.wanted[row]]

    def at(self, change: Mapping[str, Product]) -> dict[str, Lora]:
        """The factors with a change beside them."""
        return {name: beside(f, change[name][0], change[name][1] / f.scale) for name, f in self.held.items()}

    def ended(self, rounds: int) -> Edited:
        """The change at the smallest size that still passes, and what it does."""
        good, size, low = self.change, 1.0, 0.0
        for _ in range(self.settings.bisections if rounds > 1 else 0):
            middle = (low + size) / 2
            less = {name: (left, middle * right) for name, (left, right) in self.change.items()}
            if self.right(less, self.mend, self.settings.margin / 2) and len(self.flipped(less)) <= self.allowed:
                good, size = less, middle
            else:
                low = middle
        factors = self.at(good)
        alone = {n: Lora(f.a[:, self.held[n].rank :], f.b[self.held[n].rank :], f.scale) for n, f in factors.items()}
        changed, divergence = len(self.flipped(good)), 0.0
        if self.keep:
            divergence = _divergence(self.before, self.graphs.logits(factors, self.keep))
        done = Edited(factors, alone, len(self.mend), changed, len(self.keep), divergence, rounds)
        return replace(done, sentences=_sentences(done, self.settings))

    def declined(self) -> Declined:
        """Why it could not be done."""
        wrong = int(np.sum(_leads(self.graphs.logits(self.at(self.change), self.mend), self.wanted[self.mend]) <= 0))
        flipped, bound = len(self.flipped(self.change)), self.settings.bound
        return Declined(
            f"expected an edit of rank {self.settings.rank} that mends {len(self.mend)} rows and changes at most "
            f"{bound:.2%} of {len(self.keep)} rows to be kept, found after {self.settings.rounds} rounds {wrong} still "
            f"wrong and {flipped} changed; allow a higher rank or bound, or train on all rows"
        )


def _cut(product: Product, rank: int) -> Product:
    """The best product of a rank."""
    best = refactor(*product, rank)
    return best.u, best.s[:, None] * best.vt


def _plus(change: Mapping[str, Product], more: Mapping[str, Product], times: float) -> dict[str, Product]:
    return {
        name: (np.hstack([left, more[name][0]]), np.vstack([right, times * more[name][1]]))
        for name, (left, right) in change.items()
    }


def _leads(logits: Array, labels: Labels) -> NDArray[np.float64]:
    """By how much the logit of each row's label is above the largest other: [n]."""
    rows, others = np.arange(len(labels)), logits.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return np.asarray(own - others.max(axis=1))


def _divergence(before: Array, after: Array) -> float:
    """The mean Kullback-Leibler divergence of rows of logits."""
    p, q = (_logs(x.astype(np.float64)) for x in (before, after))
    return max(0.0, float(np.mean(np.sum(np.exp(p) * (p - q), axis=1))))


def _logs(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _sentences(done: Edited, settings: Settings) -> tuple[str, ...]:
    size = sum(f.a.size + f.b.size for f in done.change.values())
    mended = f"{done.mended} rows are mended by {size:,} numbers of rank up to {settings.rank}"
    if not done.kept:
        return (f"{mended}; no rows to be kept were given, so what else has changed is not known.",)
    kept = f"{done.changed} of {done.kept} rows to be kept have another answer ({settings.bound:.2%} may)"
    return (f"{mended}; {kept}, and their answers diverge by {done.divergence:.3g} on average.",)
