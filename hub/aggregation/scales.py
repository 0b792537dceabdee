"""Factors of scales (wire.kinds.scales): a weight is linear in them, so their weighted mean is the mean of the models.

q D F_k has the same codes q and scales D on all boards of a format, so the mean of F by shares is exact; what the
shares leave of 1 stays as it was sent. What is averaged is F - 1, the change of a factor that nobody has moved.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hub.aggregation import biases
from hub.aggregation.biases import Mean
from wire.kinds.scales import Belongs, ScaleFactors

Means = dict[str, tuple[Belongs, Mean]]


def apply(states: Means, brought: ScaleFactors | None, weight: float) -> Means:
    """Add what one board brought; a factor for a row of scales is one for each scale of the row."""
    if brought is None:
        return states
    means = biases.apply({n: m for n, (_, m) in states.items()}, _changes(brought), weight)
    return {
        name: (brought.belongs[name] if name in brought.belongs else states[name][0], m) for name, m in means.items()
    }


def finish(states: Means, sent: ScaleFactors | None) -> ScaleFactors | None:
    """The factors of the next version; None if nobody ever moved one."""
    if not states:
        return sent
    began = {} if sent is None else _changes(sent)
    made = biases.finish({name: mean for name, (_, mean) in states.items()}, began)
    belongs = {} if sent is None else dict(sent.belongs)
    belongs |= {name: replace(one, shape=made[name].shape) for name, (one, _) in states.items()}
    return ScaleFactors(belongs, {name: (1.0 + change).astype(np.float32) for name, change in made.items()})


def _changes(factors: ScaleFactors) -> dict[str, biases.Sent]:
    return {name: np.asarray(f - np.float32(1), np.float32) for name, f in factors.factors.items()}
