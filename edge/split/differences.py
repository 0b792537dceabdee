"""A front without backward graphs: the gradient of its arrays from that of its border, by forward passes alone.

The tail returns g, the gradient of the loss with respect to what the front made of a micro-batch, h(theta). By the
chain rule the derivative of the loss along a direction v is g times the derivative of h along v, whatever lies behind
the border; so what crosses once serves every direction:

    d_i = <g, h(theta + e v_i) - h(theta - e v_i)> / 2e        gradient = 1/K sum_i d_i v_i

The directions are those of `edge.trainers.spry` (Panchal et al., "Thinking Forward: Memory-Efficient Federated
Finetuning of Language Models", NeurIPS 2024, arXiv 2405.15551), random signs, with central differences for the same
reason; the estimate is unbiased up to O(e^2), with a cosine of about sqrt(K / P) for P parameters. g is held while the
sides are taken one after the other, each reduced to a number at once, so memory is that of a forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.chain import Chain
from edge.gradients import GRAD, Gradients
from edge.trainers.directions import moved
from wire.directions import combined
from wire.manifest import Manifest

Array = NDArray[Any]
EPSILON = 1e-3


@dataclass
class Differences:
    """What a board looks along; no two calls look the same way.

    Attributes:
        key: of the directions, 128 bits.
        board: its number, so that boards look in different directions.
        names: arrays that learn; the others stay where they are.
        directions: K, for each call.
        epsilon: e.
        counter: the next direction.
        beat: called after each direction, so that who waits hears that somebody is there.
    """

    key: int
    board: int
    names: Collection[str]
    directions: int = 8
    epsilon: float = EPSILON
    counter: int = 0
    beat: Callable[[], None] = lambda: None

    def first(self, manifest: Manifest) -> int:
        """The lowest segment that anything learns in: what lies below is the same on all sides."""
        slots = {s.segment for s in manifest.slots if {s.a, s.b, s.bias} & {*self.names}}
        return next((at for at, segment in enumerate(manifest.segments) if segment.name in slots), 0)

    def add(
        self,
        chain: Chain,
        values: Sequence[Mapping[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        cotangents: Sequence[Mapping[str, Array]],
        sums: Gradients,
    ) -> None:
        """Add the gradients of some micro-batches; the loss is infinite where a side is no number.

        Args:
            chain: of the front.
            values: of each micro-batch, what segment `first` and those above it read.
            bucket: of them.
            shared: by all.
            cotangents: gradients of the border, of each micro-batch.
            sums: gets them.
        """
        arrays = {name: shared[name] for name in self.names if name in shared}
        counters = range(self.counter, self.counter + self.directions)
        self.counter = counters.stop
        units = {name: [name] for name in arrays}
        pairs = list[tuple[int, float]]()
        for counter in counters:
            direction = combined(self.key, self.board, [(counter, 1.0)], units, arrays)
            up, down = (
                self._along(chain, values, bucket, {**shared, **moved(arrays, direction, side)}, cotangents)
                for side in (self.epsilon, -self.epsilon)
            )
            if not (math.isfinite(up) and math.isfinite(down)):  # the step will be undone
                sums.loss = math.inf
                return
            self.beat()
            pairs.append((counter, (up - down) / (2 * self.epsilon * self.directions)))
        for name, gradient in combined(self.key, self.board, pairs, units, arrays).items():
            sums.add(name, gradient)

    def _along(
        self,
        chain: Chain,
        values: Sequence[Mapping[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        cotangents: Sequence[Mapping[str, Array]],
    ) -> float:
        """<g, h> over all micro-batches for some arrays, in float64."""
        made = [dict(value) for value in values]
        border = {name.removeprefix(GRAD) for given in cotangents for name in given}
        which = range(self.first(chain.manifest), len(chain.manifest.segments))
        chain.up(made, bucket, shared, which, border)
        return sum(
            float(np.vdot(gradient.astype(np.float64), value[name.removeprefix(GRAD)].astype(np.float64)))
            for value, given in zip(made, cotangents, strict=True)
            for name, gradient in given.items()
        )
