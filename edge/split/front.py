"""The front of a model, on the board: forward to the border, and back from the gradient that the tail returns.

Back by backward graphs; a front that has none takes differences (`edge.split.differences`).

A front is a chain as any other to whoever trains (`edge.training`): what it returns for some micro-batches are the
loss and the gradients of its own inputs. That the rest happens elsewhere only shows in how long it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.chain import Chain
from edge.gradients import GRAD, LABELS, Gradients
from edge.sessions import added
from edge.split.differences import Differences
from edge.split.softmax import BIAS, WEIGHT, Turned, turned
from edge.split.talk import Talk
from wire.bundle import Bundle
from wire.kinds.head import Head
from wire.manifest import Graph, Manifest, Tensor

Array = NDArray[Any]


class Front(Chain):
    """Runs the segments of a front; `talk` must be open before gradients are asked for."""

    def __init__(
        self,
        bundle: Bundle,
        talk: Talk,
        threads: int = 1,
        providers: tuple[str, ...] = (),
        differences: Differences | None = None,
    ) -> None:
        super().__init__(bundle, threads, providers, room_of(bundle.manifest))
        self.talk, self.differences = talk, differences
        self.within_bytes = bundle.manifest.plan.budget_bytes
        self.head: Head | None = None  # where labels stay here

    def gradients(self, batches: Sequence[Mapping[str, Array]], bucket: str, shared: Mapping[str, Array]) -> Gradients:
        """Loss and gradients, summed over the rows of all micro-batches.

        A micro-batch is sent as soon as it is at the border, so the tail works on it while the next one is on its way.

        Raises:
            PeerGone: the tail is not heard.
        """
        count, talk = len(self.manifest.segments), self.talk
        values, sent, sums = [dict(batch) for batch in batches], list[int](), Gradients()
        first = 0 if self.differences is None else self.differences.first(self.manifest)
        together = [[value] for value in values] if count == 1 else [values]
        self.up(values, bucket, shared, range(first), {*talk.wanted, *LABELS})
        began = [dict(value) for value in values]
        for some in together:
            self.up(some, bucket, shared, range(first, count), {*talk.wanted, *LABELS})
            sent += [talk.forth(value, bucket) for value in some]
        if self.head is not None:
            for micro, value in zip(sent, values, strict=True):
                self._turn(micro, value, self.head, sums)
        expected, cotangents = self._gradients_of(bucket), list[dict[str, Array]]()
        for micro in sent:
            loss, found = talk.back(micro, expected)
            sums.loss += loss
            cotangents.append({GRAD + name: gradient for name, gradient in found.items()})
        if self.differences is None:
            self.down(values, bucket, shared, cotangents, sums, range(count))
        elif all(cotangents):  # the tail has no number to return: it said so by its loss
            self.differences.add(self, began, bucket, shared, cotangents, sums)
        self.settle()
        return sums

    def _turn(self, micro: int, value: Mapping[str, Array], head: Head, sums: Gradients) -> None:
        """The head's own part of a micro-batch, whose labels are here."""
        features = self.talk.features(micro)
        made = turned(features, head, value["labels"], value["weights"])
        if not (np.isfinite(made.loss) and np.isfinite(made.features).all()):  # the step will be undone
            made = Turned(np.inf, made.weight, made.bias, np.zeros_like(features))
        sums.loss += made.loss
        for name, gradient in ((WEIGHT, made.weight), (BIAS, made.bias)):
            sums.add(name, gradient)
        self.talk.turned(micro, made.features, made.loss)

    def _gradients_of(self, bucket: str) -> list[Tensor]:
        """What comes back of a micro-batch, as the last segment takes it, or made what it is the gradient of."""
        last = self.manifest.segments[-1]
        if self.differences is None:
            return border_gradients(self.manifest.graph(last, "backward", bucket))
        made = self.manifest.graph(last, "forward", bucket).outputs
        return sorted((t for t in made if t.name in self.talk.smooth), key=lambda t: t.name)


def border_gradients(graph: Graph) -> list[Tensor]:
    """The gradients that a backward graph takes from above, under the names of what they are gradients of."""
    found = [t for t in graph.inputs if t.name.startswith(GRAD)]
    return sorted((Tensor(t.name.removeprefix(GRAD), t.dtype, t.shape) for t in found), key=lambda t: t.name)


def room_of(manifest: Manifest) -> int:
    """What the sessions of a bundle may take together: its budget without what a worker holds beside any of them.

    By the plan that is the peak without its largest session: the runtime, adapters, what waits between segments.
    """
    graphs = [g for s in manifest.segments for g in s.graphs]
    base = max((g.memory.base_bytes or 0 for g in graphs), default=0)
    beside = manifest.plan.predicted_bytes - max(map(added, graphs), default=0)
    return max(0, manifest.plan.budget_bytes - max(base, beside))
