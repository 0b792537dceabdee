"""Krum and multi-Krum: only updates that lie close to most others count.

Blanchard, El Mhamdi, Guerraoui, Stainer: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, arXiv 1703.02757, section 4. The score of an update is the sum of its squared distances to its n - f - 2
nearest others; of n updates f may be bad if 2 f + 2 < n. Krum takes the one of the lowest score; multi-Krum the
n - f - 2 lowest, the most that El Mhamdi et al. (arXiv 1802.07927, section 2) allow. Boards are counted, not rows: what
a board declares does not make it closer.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.robust.rule import Bounds, Rule, squared_distances
from hub.aggregation.shares import Shares, trusted


def scores(gram: Array, bad: int) -> Array:
    """The score of each update, [n]; the lower, the closer it is to others."""
    distances = squared_distances(gram)
    np.fill_diagonal(distances, np.inf)
    near = len(gram) - bad - 2
    return np.asarray(np.sort(distances, axis=1)[:, :near].sum(axis=1))


def krum(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """The one update that is closest to the others."""
    return _chosen(gram, shares, bounds, 1)


def multi_krum(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """The mean, by shares, of the n - f - 2 updates that are closest to others."""
    return _chosen(gram, shares, bounds, len(gram) - bounds.bad - 2)


def _chosen(gram: Array, shares: Shares, bounds: Bounds, count: int) -> Shares:
    trust = np.zeros(len(gram))
    trust[np.argsort(scores(gram, bounds.bad), kind="stable")[:count]] = 1.0
    return trusted(shares, trust)


def _least(bounds: Bounds) -> int:
    return 2 * bounds.bad + 3


KRUM = Rule("krum", True, _least, krum)
MULTI_KRUM = Rule("multi-krum", True, _least, multi_krum)
