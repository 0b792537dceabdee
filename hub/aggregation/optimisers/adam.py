"""FedAdam: each number's step by the size of its changes so far.

Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295, algorithm 2, without bias correction, as there:

    m' = b1 m + (1 - b1) D,  v' = b2 v + (1 - b2) D^2,  W' = W + rate tau m' / (sqrt(v') + tau)

The adaptivity tau is not a setting: it is the root mean square of the slot's first change, v begins at tau^2, and the
rate counts in units of tau, so that neither depends on how large changes are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.optimisers.optimiser import Optimiser, Settings, State
from hub.aggregation.products import Change

Second = Callable[[Array, Array, float], Array]  # (v, D^2, b2) -> v'


def decayed(second: Array, square: Array, beta2: float) -> Array:
    """Adam's mean of squares."""
    return beta2 * second + (1 - beta2) * square


def direction(change: Array, state: State, settings: Settings, second: Second) -> tuple[Array, dict[str, Array]]:
    """m' / (sqrt(v') + tau), [in, out], and what is remembered: m and v [in, out], tau []."""
    tau = state.get("tau", np.asarray(np.sqrt(np.mean(change**2))))
    if tau == 0:  # nothing has changed yet, so there is no scale either
        return change, {}
    m = settings.beta1 * state.get("m", np.zeros_like(change)) + (1 - settings.beta1) * change
    v = second(state.get("v", np.full_like(change, tau**2)), change**2, settings.beta2)
    return m / (np.sqrt(v) + tau), {"m": m, "v": v, "tau": tau}


def stepping(second: Second) -> Callable[[Change, Change, State, Settings], tuple[Array, State]]:
    """The step of an optimiser whose mean of squares is `second`."""

    def step(sent: Change, change: Change, state: State, settings: Settings) -> tuple[Array, State]:
        towards, after = direction(change.left @ change.right, state, settings, second)
        unit = float(after["tau"]) if after else 0.0
        return sent.left @ sent.right + settings.rate * unit * towards, after

    return step


ADAM = Optimiser("adam", 3.0, stepping(decayed))
