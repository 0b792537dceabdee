"""How a round makes one adapter out of its updates: what `[aggregation]` of hub.toml says, and a round may change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wire.record import at_least


@dataclass(frozen=True)
class Recipe:
    """The settings of an aggregation; it is kept with its round, so that a killed hub makes the same version."""

    method: str = "stacking"
    weights: str = "samples"
    robust: str = "none"
    optimiser: str = "plain"
    server_rate: float = field(default=1.0, metadata=at_least(1e-6, 1e6))
    extra: dict[str, Any] = field(default_factory=dict)
