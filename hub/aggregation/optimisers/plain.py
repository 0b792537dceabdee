"""The mean change itself, times a rate: FedAvg (McMahan et al., arXiv 1602.05629) is rate 1.

The rate as in Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295, section 2.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.optimisers.optimiser import Optimiser, Settings, State
from hub.aggregation.products import Change


def step(sent: Change, change: Change, state: State, settings: Settings) -> tuple[Change, State]:
    """What was sent and `rate` times its change; nothing is remembered."""
    return beside(sent, change, settings.rate), {}


def beside(one: Change, other: Change, times: float) -> Change:
    """one + times * other, still factored."""
    left = np.concatenate([one.left, times * other.left], axis=1)
    return Change(left, np.concatenate([one.right, other.right]))


PLAIN = Optimiser("plain", 1.0, step)
