"""AdamW: Adam with decoupled weight decay.

Loshchilov & Hutter, arXiv 1711.05101, algorithm 2; over Adam: Kingma & Ba, arXiv 1412.6980, algorithm 1. State and
parameters are float32, as in the frameworks that it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Hyperparameters:
    """alpha, beta1, beta2, epsilon and lambda of the papers."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


def slowed(settings: Hyperparameters, share: float) -> Hyperparameters:
    """The same with a share of alpha.

    >>> slowed(Hyperparameters(0.5), 0.5).learning_rate
    0.25
    """
    return replace(settings, learning_rate=settings.learning_rate * share)


@dataclass
class AdamW:
    """First and second moments per parameter, and the step count t."""

    hyperparameters: Hyperparameters
    t: int = 0
    m: dict[str, Array] = field(default_factory=dict)
    v: dict[str, Array] = field(default_factory=dict)

    def step(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Change the parameters in place; those without a gradient stay as they are."""
        h = self.hyperparameters
        self.t += 1  # line 5
        first, second = 1 - h.beta1**self.t, 1 - h.beta2**self.t
        for name, gradient in gradients.items():
            theta, g = parameters[name], gradient.astype(np.float32, copy=False)
            m = self.m.setdefault(name, np.zeros_like(theta))
            v = self.v.setdefault(name, np.zeros_like(theta))
            m *= np.float32(h.beta1)
            m += np.float32(1 - h.beta1) * g  # line 7
            v *= np.float32(h.beta2)
            v += np.float32(1 - h.beta2) * g * g  # line 8
            theta *= np.float32(1 - h.learning_rate * h.weight_decay)  # the decoupled part of line 12
            denominator = np.sqrt(v) * np.float32(1 / np.sqrt(second)) + np.float32(h.epsilon)  # line 10
            theta -= np.float32(h.learning_rate / first) * m / denominator  # lines 9 and 12
