"""Quantized models trained forward only, through their scales: the codes stay as they are.

Shang et al., "Fine-tuning Quantized Neural Networks with Zeroth-order Optimization" (QZO), arXiv 2505.13430:
w = D q, of which only the scales D are moved, along a random direction, by a difference of two losses that is
clipped first (directional derivative clipping, section 3.3).

    d_i = (L(D (1 + e v_i)) - L(D (1 - e v_i))) / 2e        d'_i = clip(d_i, -C, C) / p
    c = -rate / K sum_i d'_i v_i                            D <- D (1 + c) where c >= 0, else D / (1 - c)

It departs from the paper in four places. Noise and steps are relative, that is in log |D|: an absolute step of 1e-3
doubles one layer's scales and does nothing to another's; and a scale keeps its sign, which blocks without zero points
need, where the paper holds scales above 0. C is a multiple of how large derivatives have been of late, instead of
100, so it needs no tuning. Clipping shrinks the estimate, E[clip(d, -C, C) v] = P(|d| < C) grad for a locally linear
loss and many scales (so the paper's theorem 1 does not hold as stated), and p, the share of recent derivatives that
no clip touched, undoes it. And v_i are signs, which two machines rebuild bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.directions import applied, kept
from edge.trainers.interface import Arrays, Loss, Needs, NotFinite, Rows, Scalars, State, Stepped
from wire.directions import Pairs, Units, combined
from wire.kinds.scales import round_key, stepped

NORMAL_MEDIAN = 0.6745  # the median of |x| of a standard normal x


@dataclass(frozen=True)
class Qzo:
    """A trainer of scales.

    Its state: `counter` uint64 [], the next direction; `seen` float32 [at most window], sizes of recent derivatives;
    `pairs/counter` uint64 [n] and `pairs/scalar` float32 [n] of what was applied.

    Attributes:
        key: of the round, 128 bits.
        units: scales that this board moves, by name of a unit.
        board: its number, so that boards look in different directions.
        directions: K, for each step.
        epsilon: e, relative.
        rate: of a step in log |D|.
        clip: C in standard deviations of recent derivatives.
        window: how many are recent.
        largest: no step moves a scale by more than this share of it.
    """

    key: int
    units: Units
    board: int = 0
    directions: int = 4
    epsilon: float = 1e-3
    rate: float = 1e-2
    clip: float = 3.0
    window: int = 64
    largest: float = 0.1

    @property
    def needs(self) -> Needs:
        """Two runs, for each direction, of a forward graph whose scales are inputs."""
        return "scales"

    def slower(self, share: float) -> Qzo:
        """The same with a share of its rate, which its pairs hold."""
        return replace(self, rate=self.rate * share)

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""
        return {**kept(0, []), "seen": np.zeros(0, np.float32)}

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows; the loss is the mean over both sides of all directions.

        Raises:
            NotFinite: a loss.
        """
        if rows.loss is None:
            raise BadData("expected a forward graph whose scales are inputs, found none; choose another trainer")
        first = int(state["counter"])
        found, loss = differences(rows.loss, arrays, self, range(first, first + self.directions))
        seen = np.append(state["seen"], np.abs(found).astype(np.float32))[-self.window :]
        pairs = [(first + i, self._scalar(d)) for i, d in enumerate(unshrunk(found, seen, self.clip))]
        made = apply(self, arrays, pairs)
        then = kept(first + self.directions, [*applied(state), *pairs])
        return Stepped(made, {**then, "seen": seen}, loss)

    def update(self, arrays: Arrays, state: State) -> Scalars:
        """The pairs that rebuild the scales."""
        return Scalars(self.key, tuple(applied(state)), self.directions)

    def _scalar(self, d: float) -> float:
        """A direction's share of c, as a float32 number."""
        most = self.largest / self.directions
        return float(np.float32(max(-most, min(most, -self.rate * d / self.directions))))


def differences(
    loss: Loss, arrays: Arrays, settings: Qzo, counters: Sequence[int]
) -> tuple[NDArray[np.float64], float]:
    """d for each direction, and the mean of all losses.

    Raises:
        NotFinite: a loss.
    """
    found: list[float] = []
    losses: list[float] = []
    for counter in counters:
        v = combined(round_key(settings.key), settings.board, [(counter, settings.epsilon)], settings.units, arrays)
        up, down = (
            float(loss({n: a * (np.float32(1) + side * v[n]) if n in v else a for n, a in arrays.items()}))
            for side in (np.float32(1), np.float32(-1))
        )
        if not (math.isfinite(up) and math.isfinite(down)):
            bad = down if math.isfinite(up) else up
            raise NotFinite(f"expected a finite loss along direction {counter}, found {bad}; lower the learning rate")
        found.append((up - down) / (2 * settings.epsilon))
        losses += [up, down]
    return np.array(found), sum(losses) / len(losses)


def limit(seen: NDArray[np.float32], clip: float) -> float:
    """C: so many standard deviations of recent derivatives, by their median, which a few wild ones do not move.

    >>> limit(np.array([1.0, 1.0, 1.0, 50.0], np.float32), 0.6745)
    1.0
    """
    return clip * float(np.median(seen)) / NORMAL_MEDIAN


def unshrunk(found: NDArray[np.float64], seen: NDArray[np.float32], clip: float) -> NDArray[np.float64]:
    """Derivatives clipped to C, over the share of recent ones that lie within.

    Args:
        found: d [K].
        seen: sizes of recent derivatives, not empty, these among them.
        clip: see `limit`.

    >>> unshrunk(np.array([100.0]), np.array([1.0, 1.0, 1.0, 100.0], np.float32), 0.6745).tolist()
    [1.3333333333333333]
    """
    most = limit(seen, clip)
    inside = float(np.mean(seen <= np.float32(most))) if most > 0 else 0.0
    # all of them 0, or C below them all: nothing is known of the share
    return np.clip(found, -most, most) / (inside or 1.0)


def apply(settings: Qzo, arrays: Arrays, pairs: Pairs) -> dict[str, NDArray[np.float32]]:
    """The scales after one step of K pairs, the same bits everywhere."""
    return stepped(arrays, round_key(settings.key), settings.board, settings.units, pairs)


def rebuild(settings: Qzo, start: Arrays, update: Scalars) -> dict[str, NDArray[np.float32]]:
    """The scales that a board had after an update: the same steps from the same start, without a loss."""
    arrays = dict(start)
    for pairs in update.steps():
        arrays = apply(settings, arrays, pairs)
    return arrays
