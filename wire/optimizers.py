"""Optimizers whose state needs no coding: plain gradient descent, and AdamW with moments of 32 bits.

They are here because hubs replay what boards computed, step by step.

Descent is Robbins & Monro, "A stochastic approximation method" (1951), with the momentum of Polyak (1964) in the
form of Sutskever et al. (ICML 2013) that frameworks share: u <- momentum u + g, theta <- theta - rate u.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.adamw import AdamW, Hyperparameters, slowed
from wire.directions import Array, Arrays

State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Sgd:
    """Gradient descent; state `u/NAME` float32 where there is momentum, else none."""

    rate: float = 1e-3
    momentum: float = 0.0

    def slower(self, share: float) -> Sgd:
        """The same with a share of its rate."""
        return replace(self, rate=self.rate * share)

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step.

        >>> Sgd().begin({"a": np.ones(2, np.float32)})
        {}
        """
        return {f"u/{name}": np.zeros(a.shape, np.float32) for name, a in arrays.items()} if self.momentum else {}

    def apply(
        self, arrays: Arrays, state: State, gradients: Arrays
    ) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
        """Arrays and state after a step; arrays without a gradient stay as they are."""
        made, kept = dict(arrays), dict(state)
        for name, gradient in gradients.items():
            u = gradient
            if self.momentum:
                u = kept[f"u/{name}"] = np.float32(self.momentum) * state[f"u/{name}"] + gradient
            made[name] = arrays[name] - np.float32(self.rate) * u
        return made, kept


@dataclass(frozen=True)
class Adam32:
    """AdamW with moments of 32 bits (`wire.adamw`) as an optimizer: state `t`, `m/NAME`, `v/NAME` float32."""

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)

    def slower(self, share: float) -> Adam32:
        """The same with a share of its rate."""
        return Adam32(slowed(self.hyperparameters, share))

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step: moments of zero."""
        state: dict[str, NDArray[Any]] = {"t": np.zeros((), np.uint64)}
        for name, array in arrays.items():
            state[f"m/{name}"], state[f"v/{name}"] = (np.zeros(array.shape, np.float32) for _ in range(2))
        return state

    def apply(
        self, arrays: Arrays, state: State, gradients: Arrays
    ) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
        """Arrays and state after a step; arrays without a gradient stay as they are."""
        m, v = ({name: state[f"{part}/{name}"].copy() for name in gradients} for part in "mv")
        adam = AdamW(self.hyperparameters, int(state["t"]), m, v)
        made = {name: a.copy() if name in gradients else a for name, a in arrays.items()}
        adam.step(made, gradients)
        moments = {f"m/{name}": adam.m[name] for name in gradients} | {f"v/{name}": adam.v[name] for name in gradients}
        return made, {**state, "t": np.asarray(adam.t, np.uint64), **moments}
