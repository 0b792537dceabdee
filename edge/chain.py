"""The segments of a bundle, one after the other.

All micro-batches go through a segment before the next one is loaded, so a board holds one segment's weights at
a time. What crosses between segments stays in memory. A backward graph makes its segment's forward again, so
nothing but the boundaries is kept (Chen et al., "Training deep nets with sublinear memory cost", arXiv
1604.06174, section 3, with segments as the pieces).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.gradients import GRAD, LABELS, LOSS, Gradients
from edge.runtime import Session
from edge.sessions import Sessions
from quant.rows import open_tables
from wire.bundle import Bundle
from wire.manifest import Graph, Manifest, Segment

if TYPE_CHECKING:
    from edge.trunk import Trunk

Array = NDArray[Any]
Taken = TypeVar("Taken")


class Chain:
    """Runs graphs of a checked bundle; holds one session at any time, or as many as there is room for.

    Attributes:
        trunk: keeps what segments below the lowest slot make; None computes it in every pass.
        room_bytes: what open sessions may take together beyond the runtime; 0: no more than one is open.
        within_bytes: what the process may take when another one is opened beside them; 0: nobody looks.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, providers: tuple[str, ...] = (), room_bytes: int = 0) -> None:
        self.bundle, self.threads, self.providers, self.room_bytes = bundle, threads, providers, room_bytes
        self._tables = open_tables(bundle.manifest.tables, bundle.path)
        self.within_bytes = 0
        self.sessions = Sessions(bundle, threads, self._tables, providers)
        self.trunk: Trunk | None = None

    @property
    def opened(self) -> int:
        """How many sessions are open."""
        return len(self.sessions.open)

    @property
    def manifest(self) -> Manifest:
        """What the chain runs."""
        return self.bundle.manifest

    def forward(
        self,
        batches: Sequence[Mapping[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        wanted: Sequence[str],
        *,
        bare: bool = False,
    ) -> list[dict[str, Array]]:
        """Every micro-batch through every segment.

        Args:
            batches: the model's inputs of each micro-batch.
            bucket: whose shapes they have.
            shared: inputs that all segments and micro-batches share (adapters, head).
            wanted: outputs of the chain to return.
            bare: run graphs without slots where there are some; for when nothing in `shared` is for a slot.
        """
        return self.each(batches, bucket, shared, wanted, lambda found: found, bare=bare)

    def each(
        self,
        batches: Sequence[Mapping[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        wanted: Sequence[str],
        take: Callable[[dict[str, Array]], Taken],
        *,
        bare: bool = False,
    ) -> list[Taken]:
        """The same as `forward`, but outputs are taken as they are made, so that large ones are not held together.

        Args:
            batches: see `forward`, as the others.
            bucket: of them.
            shared: by all.
            wanted: outputs that are taken.
            take: what to make of those of a micro-batch; called in order.
            bare: see `forward`.
        """
        values, segments = [dict(batch) for batch in batches], self.manifest.segments
        first = self._enter(values, bucket, shared, wanted)
        for at, segment in enumerate(segments[first:-1], first):
            keep = self.read_by(segments[at + 1 :]) | set(wanted)
            self._forward(self.manifest.serving(segment, bucket, bare=bare, fed=shared), values, shared, keep)
        taken, last = [], self.manifest.serving(segments[-1], bucket, bare=bare, fed=shared)
        for value in values:
            self._forward(last, [value], shared, set(wanted))
            taken.append(take({name: value.pop(name) for name in wanted}))
        self.settle(first)
        return taken

    def gradients(self, batches: Sequence[Mapping[str, Array]], bucket: str, shared: Mapping[str, Array]) -> Gradients:
        """Loss and gradients, summed over the rows of all micro-batches (each row times its weight).

        Forward through all segments but the last; then backward graphs from the last one down, until a segment
        has none (nothing below it learns).

        Raises:
            BadData: scales are moved, which backward graphs know nothing of.
        """
        moved = [one.weight for one in self.manifest.scales if one.input in shared]
        if moved:
            raise BadData(
                f"expected an adapter without moved scales for gradients, found one that moves {moved[0]}; train it "
                "with --trainer qzo or --trainer spry"
            )
        values, count = [dict(batch) for batch in batches], len(self.manifest.segments)
        first = self._enter(values, bucket, shared)
        self.up(values, bucket, shared, range(first, count - 1), LABELS)
        sums, cotangents = Gradients(), [dict[str, Array]() for _ in values]
        self.down(values, bucket, shared, cotangents, sums, range(count))
        self.settle(first)
        return sums

    def up(
        self,
        values: Sequence[dict[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        which: range,
        wanted: Iterable[str] = (),
    ) -> None:
        """Micro-batches through some segments, forward, one after the other.

        Args:
            values: what each micro-batch has by now; what nobody needs any more goes, what is made comes.
            bucket: of them.
            shared: by all.
            which: numbers of segments.
            wanted: what is kept besides what later segments read, and what backward graphs of these and earlier do.
        """
        segments = self.manifest.segments
        for at in which:
            again = [s for s in segments[: at + 1] if has_backward(s, bucket)]
            keep = self.read_by(segments[at + 1 :]) | self.read_by(again) | set(wanted)
            self._forward(self.manifest.graph(segments[at], "forward", bucket), values, shared, keep)

    def down(
        self,
        values: Sequence[dict[str, Array]],
        bucket: str,
        shared: Mapping[str, Array],
        cotangents: Sequence[dict[str, Array]],
        sums: Gradients,
        which: range,
        last: Graph | None = None,
    ) -> None:
        """Back through some segments from the last one down, until one has no backward graph: nothing below learns.

        Args:
            values: of each micro-batch, what the segments read; what no earlier one reads goes.
            bucket: of them.
            shared: by all.
            cotangents: gradients of boundaries, of each micro-batch; those that segments make are added.
            sums: gets losses and gradients.
            which: numbers of segments.
            last: a graph in place of the last segment's own; its seeds are among the cotangents.
        """
        for at in reversed(which):
            segment = self.manifest.segments[at]
            if not has_backward(segment, bucket):
                break
            graph, last = last or self.manifest.graph(segment, "backward", bucket), None
            self._backward(segment, graph, values, shared, cotangents, sums)
            self._forget(values, self.read_by(self.manifest.segments[:at]))
            given = {t.name for t in graph.inputs if t.name.startswith(GRAD)}
            kept = {name for seeds in cotangents for name in seeds} - given
            self._forget(cotangents, kept | {GRAD + name for name in segment.differentiable})

    def _forget(self, values: Sequence[dict[str, Array]], kept: set[str]) -> None:
        """Let go of what nobody reads any more of each micro-batch: it would lie beside the sessions that follow."""
        for value in values:
            for name in [n for n in value if n not in kept]:
                del value[name]

    def _enter(
        self, values: list[dict[str, Array]], bucket: str, shared: Mapping[str, Array], wanted: Sequence[str] = ()
    ) -> int:
        """The first segment that must run; what it reads is in `values` then."""
        trunk = self.trunk
        if trunk is None or any(set(wanted) & set(s.outputs) for s in self.manifest.segments[: trunk.first]):
            return 0

        def below(batches: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
            made = [dict(batch) for batch in batches]
            segments = self.manifest.segments
            for at, segment in enumerate(segments[: trunk.first]):
                self._forward(
                    self.manifest.graph(segment, "forward", bucket), made, {}, self.read_by(segments[at + 1 :])
                )
            return made

        first = trunk.enter(values, bucket, shared, below)
        unread = trunk.reads - self.read_by(self.manifest.segments[first:])
        for value in values:
            for name in unread:
                value.pop(name, None)
        return first

    def read_by(self, segments: Iterable[Segment]) -> set[str]:
        """What must be kept for some segments; ids where they read rows of a table."""
        names = {name for segment in segments for name in segment.inputs}
        return names | self._tables.behind(names)

    def _forward(
        self,
        graph: Graph,
        values: Sequence[dict[str, Array]],
        shared: Mapping[str, Array],
        keep: set[str],
    ) -> None:
        session = self._session(graph)
        wanted = tuple(name for name in session.outputs if name in keep)
        for value in values:
            value.update(session.run({**shared, **value}, wanted))
            self._forget([value], keep)

    def _backward(
        self,
        segment: Segment,
        graph: Graph,
        values: Sequence[Mapping[str, Array]],
        shared: Mapping[str, Array],
        cotangents: Sequence[dict[str, Array]],
        sums: Gradients,
    ) -> None:
        session = self._session(graph)
        boundary = {GRAD + name for name in segment.differentiable}
        wanted = tuple(n for n in session.outputs if n.startswith(GRAD) or n == LOSS)
        for value, seeds in zip(values, cotangents, strict=True):
            found = session.run({**shared, **value, **_seeds(graph, seeds)}, wanted)
            for name, gradient in found.items():
                if name == LOSS:
                    sums.loss += float(gradient)
                elif name in boundary:  # several later segments may read one boundary: their gradients add
                    seeds[name] = seeds[name] + gradient if name in seeds else gradient
                else:
                    sums.add(name.removeprefix(GRAD), gradient)

    def _session(self, graph: Graph) -> Session:
        return self.sessions.of(graph, self.room_bytes, self.within_bytes)

    def settle(self, first: int = 0) -> None:
        """After a pass that began at a segment: where it ran one only, its session waits for the next pass."""
        if len(self.manifest.segments) - first > 1 and not self.room_bytes:
            self.close()

    def close(self) -> None:
        """Close the sessions that are open."""
        self.sessions.close()


def has_backward(segment: Segment, bucket: str) -> bool:
    """Whether anything learns in a segment or below it."""
    return any(g.kind == "backward" and g.bucket == bucket for g in segment.graphs)


def _seeds(graph: Graph, known: Mapping[str, Array]) -> dict[str, Array]:
    """The gradients that the graph takes from above; a boundary that nobody used has gradient zero."""
    return {
        t.name: known[t.name] if t.name in known else np.zeros(t.shape, np.float32)
        for t in graph.inputs
        if t.name.startswith(GRAD)
    }
