"""What is promised: the settings of hub.toml, and what a private round keeps of them with its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from wire.record import at_least

Sampling = Literal["all", "poisson", "fixed"]


@dataclass(frozen=True)
class PrivacyConfig:
    """`[privacy]` of hub.toml.

    Attributes:
        noise: standard deviation of the noise on the sum of changes, in multiples of `clip`; 0: no privacy.
        clip: the largest Frobenius norm of a board's change, over all its slots and biases together.
        delta: of (epsilon, delta).
        budget: no private round is opened that would spend more than this epsilon; 0: no limit.
        sampling: who is asked: all, each with probability `rate` (poisson), or a fixed share drawn without replacement.
        rate: of the boards.
    """

    noise: float = field(default=0.0, metadata=at_least(0.0, 1e6))
    clip: float = field(default=1.0, metadata=at_least(1e-9, 1e9))
    delta: float = field(default=1e-5, metadata=at_least(1e-15, 0.1))
    budget: float = field(default=0.0, metadata=at_least(0.0))
    sampling: Sampling = "all"
    rate: float = field(default=1.0, metadata=at_least(1e-6, 1.0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Private:
    """What a private round promises; it is kept with the round.

    Attributes:
        noise, clip, delta, sampling: as in `PrivacyConfig`.
        population: the boards that could have been asked.
        divisor: n, by which the sum of changes is divided, whoever answers: its sensitivity is clip / n.
        epsilon: of this round alone.
        spent: of all private rounds, with this one.
    """

    noise: float
    clip: float
    delta: float
    sampling: Sampling
    population: int
    divisor: float
    epsilon: float = 0.0
    spent: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each number of the mean change."""
        return self.noise * self.clip / self.divisor
