"""Norm clipping: a change longer than a bound counts as if it had that length, in its own direction.

Sun, Kairouz, Suresh, McMahan: "Can You Really Backdoor Federated Learning?", arXiv 1911.07963, section 5 ("norm
thresholding"). With the median of all lengths as the bound, as in FLAME (Nguyen et al., arXiv 2101.02281, algorithm 1,
line 12), nobody must know the length of honest changes. Clipping bounds what a bad board does; it takes none out.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.robust.rule import Bounds, Rule, lengths
from hub.aggregation.shares import Shares, shortened


def passed(found: Array, longest: float) -> Array:
    """What is let through of changes of some lengths.

    >>> passed(np.array([0.0, 1.0, 4.0]), 2.0).tolist()
    [1.0, 1.0, 0.5]
    """
    return np.divide(longest, found, out=np.ones_like(found), where=found > longest)


def fixed(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """No change longer than `bounds.clip`."""
    return shortened(shares, passed(lengths(gram), bounds.clip))


def by_median(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """No change longer than `bounds.clip` times the median of all."""
    found = lengths(gram)
    return shortened(shares, passed(found, bounds.clip * float(np.median(found))))


FIXED = Rule("clip", False, lambda bounds: 1, fixed)
BY_MEDIAN = Rule("clip-median", False, lambda bounds: 3, by_median)
