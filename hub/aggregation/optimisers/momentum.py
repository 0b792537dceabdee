"""FedAvgM: changes of earlier rounds go on (Hsu, Qi, Brown, arXiv 1909.06335, section 4.2).

    v' = beta v + D,  W' = W + rate v'

The sum v stays factored: after each round its best `rank` directions are kept.
"""

from __future__ import annotations

from hub.aggregation.optimisers.optimiser import Optimiser, Settings, State
from hub.aggregation.optimisers.plain import beside
from hub.aggregation.products import Change
from wire.ladder import refactor


def step(sent: Change, change: Change, state: State, settings: Settings) -> tuple[Change, State]:
    """One round; remembers left [in, rank] and right [rank, out] of v."""
    speed = beside(change, Change(state["left"], state["right"]), settings.beta1) if state else change
    kept = refactor(speed.left, speed.right, settings.rank)
    return beside(sent, speed, settings.rate), {"left": kept.u * kept.s, "right": kept.vt}


MOMENTUM = Optimiser("momentum", 0.5, step)
