"""From weights to shares: how much each update counts. What the shares leave of 1 stays as it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hub.aggregation.method import Array


@dataclass(frozen=True)
class Shares:
    """A share per update, [n], each at least 0, together at most 1; `notes` say what was decided, for people.

    Where a robust rule spoke, `trust` [n] is by how much it changed what each board counts in relation to others (0:
    left out), and `passed` [n] what it lets through of each change (1: all of it). Heads, which are averaged by rows
    of each class and not by shares, need them one by one.
    """

    values: Array
    notes: tuple[str, ...] = ()
    trust: Array | None = None
    passed: Array | None = None

    def among(self, holds: Sequence[bool]) -> Array:
        """The shares of those that hold a slot, in their relations and together what all of them would be; 0 of others.

        What a rule or staleness let through of a change stays let through: it is no share that others could fill.

        >>> Shares(np.array([0.5, 0.3, 0.2])).among([True, False, True]).round(6).tolist()
        [0.714286, 0.0, 0.285714]
        >>> shortened(Shares(np.array([0.5, 0.5])), np.array([1.0, 0.5])).among([False, True]).tolist()
        [0.0, 0.5]
        """
        if all(holds):
            return self.values
        with np.errstate(divide="ignore", invalid="ignore"):
            plain = self.values if self.passed is None else np.nan_to_num(self.values / self.passed, posinf=0.0)
        own = np.where(holds, self.values, 0.0)
        held = float(plain[np.asarray(holds, bool)].sum())
        return own * (float(plain.sum()) / held) if held > 0 else own

    def head_factors(self, index: int) -> tuple[float, float]:
        """Of one update: by how much its rows count, and what is let through of its change."""
        trust = 1.0 if self.trust is None else float(self.trust[index])
        return trust, 1.0 if self.passed is None else float(self.passed[index])


def by_samples(samples: Sequence[float]) -> Shares:
    """In proportion to the rows that boards declare.

    >>> by_samples([1, 3]).values.tolist()
    [0.25, 0.75]
    """
    weights = np.asarray(samples, np.float64)
    return Shares(weights / weights.sum())


def trusted(shares: Shares, trust: Array) -> Shares:
    """Shares in new relations: each times its trust, and together what they were.

    >>> trusted(Shares(np.array([0.5, 0.25, 0.25])), np.array([0.0, 1.0, 1.0])).values.tolist()
    [0.0, 0.5, 0.5]
    """
    values = shares.values * trust
    before = 1.0 if shares.trust is None else shares.trust
    return replace(shares, values=values * (shares.values.sum() / values.sum()), trust=before * trust)


def shortened(shares: Shares, passed: Array) -> Shares:
    """Shares that let through only a part of each change; the rest stays as it was sent.

    >>> shortened(Shares(np.array([0.5, 0.5])), np.array([1.0, 0.5])).values.tolist()
    [0.5, 0.25]
    """
    before = 1.0 if shares.passed is None else shares.passed
    return replace(shares, values=shares.values * passed, passed=before * passed)


def faded(shares: Shares, staleness: Sequence[int]) -> Shares:
    """Shares of updates that missed some versions, each by 1 / sqrt(1 + missed).

    As in FedBuff (Nguyen et al., arXiv 2106.06639): what fades is not given to the others.

    >>> faded(Shares(np.array([0.5, 0.5])), [0, 3]).values.tolist()
    [0.5, 0.25]
    """
    missed = np.asarray(staleness, np.float64)
    if not missed.any():
        return shares
    note = f"{np.count_nonzero(missed)} of {len(missed)} updates missed up to {int(missed.max())} versions"
    return replace(shortened(shares, 1.0 / np.sqrt(1.0 + missed)), notes=(*shares.notes, note))
