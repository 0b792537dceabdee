"""LAMB: Adam's direction, with a step as long as the slot asks for (You et al., arXiv 1904.00962, algorithm 2).

    u = m' / (sqrt(v') + tau),  W' = W + rate phi |W| / |u| u

The trust ratio is that of the product A B of a slot. It begins at nothing, so phi |W| = max(|W|, |first change|). The
step does not shrink by itself: lower the rate towards the end.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.optimisers.adam import decayed, direction
from hub.aggregation.optimisers.optimiser import Optimiser, Settings, State
from hub.aggregation.products import Change


def step(sent: Change, change: Change, state: State, settings: Settings) -> tuple[Array, State]:
    """One round; remembers what Adam does, m and v [in, out] and tau []."""
    towards, after = direction(change.left @ change.right, state, settings, decayed)
    whole, length = sent.left @ sent.right, float(np.linalg.norm(towards))
    if length == 0 or not after:
        return whole, after
    first = float(after["tau"]) * np.sqrt(whole.size)
    trust = max(float(np.linalg.norm(whole)), first) / length
    return whole + settings.rate * trust * towards, after


LAMB = Optimiser("lamb", 0.5, step)
