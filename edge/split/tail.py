"""The tail of a model, elsewhere: from the border to the loss and back, with adapters of its own for every board.

One bundle, the whole model with a cut at every border, serves fronts of any depth. A session is what one board's job
is here: notes in, notes out, nothing waits. Steps are those of `edge.trainers.backprop`, done when the board says so,
so that both halves do the same number of them with the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from console.errors import BadData, EdgequiltError, join
from edge.chain import Chain
from edge.gradients import GRAD, LABELS, Gradients
from edge.split.channel import Note
from edge.split.talk import FEATURES
from edge.split.wish import Wish, shape_of
from edge.trainers.backprop import Backprop
from edge.trainers.ghost import mean_of
from edge.trainers.interface import Arrays, NotFinite, Rows, State
from edge.trainers.interface import Gradients as Sums
from edge.training.felt import Remembered
from edge.training.learned import head_of, reheaded, relearned
from wire.activations import pack_tensors, unpack_tensors
from wire.adapter import Adapter
from wire.inputs import inputs_of
from wire.manifest import Bucket, Graph, Manifest, Segment, Tensor

Array = NDArray[Any]
MOST_OPEN = 4096  # micro-batches whose features went out


@dataclass(frozen=True)
class Border:
    """Where a front ends: the tail begins with segment `first`; `reads` is what it must be given of a micro-batch."""

    first: int
    reads: tuple[str, ...]
    smooth: tuple[str, ...]  # those that gradients flow through


def border_of(manifest: Manifest, wish: Wish) -> Border:
    """The segment that goes on where a front ends.

    Raises:
        BadData: this bundle has no cut there.
    """
    made, own = set(wish.border), "" if manifest.split is None else manifest.split.id
    if wish.split != own and wish.split:
        raise BadData(f"expected a front of export {own or 'unknown'}, found one of {wish.split}; export both together")
    for first, segment in enumerate(manifest.segments[1:], 1):
        crossing = {n for s in manifest.segments[:first] for n in s.outputs} & _read_by(manifest.segments[first:])
        if crossing and crossing <= made and set(segment.differentiable) <= made:
            inputs = [t.name for t in manifest.inputs if t.name in _read_by(manifest.segments[first:])]
            reads = (*sorted(crossing), *inputs, *(LABELS if wish.labels else ()))
            return Border(first, reads, tuple(sorted(segment.differentiable)))
    known = [join(list(segment.inputs)) for segment in manifest.segments[1:]]
    raise BadData(
        f"expected a cut where {join(sorted(made))} cross, found cuts at {'; '.join(known) or 'no place'}; export "
        "fronts and tail together"
    )


@dataclass
class Session:
    """One board's job.

    Attributes:
        chain: of the whole model; several sessions share it.
        adapter: where the tail's slots begin.
        trainer: of the arrays of these slots (and of the head).
        wish: of the board.
        arrays: that learn, by graph input.
        border: where the tail begins.
        headed: whether the head learns, too.
        advance: told the steps done.
        felt: remembers what the last steps say of slots; None where nobody asked.
        steps: that were done.
        losses: mean loss of the first of them and of the last.
    """

    chain: Chain
    adapter: Adapter
    trainer: Backprop
    wish: Wish
    arrays: Arrays
    border: Border
    headed: bool = False
    advance: Callable[[int], None] = lambda done: None
    felt: Remembered | None = None
    state: State = field(default_factory=dict)
    steps: int = 0
    losses: tuple[float, float] = (math.nan, math.nan)
    _open: dict[int, tuple[Bucket, dict[str, Array]]] = field(
        default_factory=dict
    )  # by micro-batch, until it is turned
    _sums: Gradients = field(default_factory=Gradients)
    _before: tuple[Arrays, State] | None = None
    _step: int = 0

    def __post_init__(self) -> None:
        self.state = self.trainer.begin(self.arrays)

    def opened(self) -> Note:
        """What the board is told first."""
        manifest = self.chain.manifest
        able = manifest.from_features is not None and manifest.head is not None
        return opened(self.border, head_of(manifest).features if able else 0)

    def take(self, note: Note) -> Note | None:
        """One note of the board; what to say to it, if anything.

        Raises:
            BadData: it does not belong here, and the job cannot go on.
        """
        if note.step != self._step:
            raise BadData(f"expected step {self._step} of the board, found {note.step}; it begins anew")
        if note.what == "forth":
            return self._forth(note) if self.wish.labels else self._features(note)
        if note.what == "turned" and not self.wish.labels:
            return self._turned(note)
        if note.what == "step":
            self._stepped(int(note.fields.get("rows") or 0), float(note.fields.get("share") or 0))
        elif note.what == "undo":
            self._undone()
        else:
            raise BadData(f"expected a micro-batch or the end of a step, found {note.what}; it begins anew")
        return None

    def made(self) -> Adapter:
        """The tail's slots as trained (and the head)."""
        manifest = self.chain.manifest
        made = relearned(manifest, self.adapter, self.arrays)
        return reheaded(manifest, made, self.arrays) if self.headed else made

    def _forth(self, note: Note) -> Note:
        """To the loss and back."""
        bucket = self._bucket(str(note.fields.get("bucket")))
        values = dict(unpack_tensors(note.data, self._expected(bucket)))
        chain, count = self.chain, len(self.chain.manifest.segments)
        chain.up([values], bucket.name, self._shared(), range(self.border.first, count - 1), LABELS)
        return self._back(note, bucket, values, {}, None)

    def _features(self, note: Note) -> Note:
        """To the features, which go to the board; it has the labels."""
        head, chain = head_of(self.chain.manifest), self.chain
        if len(self._open) >= MOST_OPEN:
            raise BadData(f"expected at most {MOST_OPEN} micro-batches at a time, found more; take a smaller batch")
        bucket = self._bucket(str(note.fields.get("bucket")))
        values = dict(unpack_tensors(note.data, self._expected(bucket)))
        which = range(self.border.first, len(chain.manifest.segments))
        chain.up([values], bucket.name, self._shared(), which, (head.features_output,))
        features = values.pop(head.features_output)
        self._open[note.micro] = bucket, values
        data = pack_tensors({FEATURES: features}, {FEATURES: self.wish.coding})
        return Note("features", note.step, note.micro, {"rows": len(features)}, data)

    def _turned(self, note: Note) -> Note:
        """From the gradient of features back."""
        if note.micro not in self._open:
            raise BadData(f"expected a micro-batch whose features went out, found {note.micro}; it begins anew")
        bucket, values = self._open.pop(note.micro)
        head = head_of(self.chain.manifest)
        given = unpack_tensors(note.data, [Tensor(FEATURES, "float32", (bucket.batch, head.features))])[FEATURES]
        loss = note.fields.get("loss")
        self._sums.loss += float(loss) if isinstance(loss, (int, float)) else math.inf
        seeds = {GRAD + head.features_output: given}
        return self._back(note, bucket, values, seeds, self.chain.manifest.from_features)

    def _back(
        self, note: Note, bucket: Bucket, values: dict[str, Array], seeds: dict[str, Array], last: Graph | None
    ) -> Note:
        """Through the segments of the tail, down to the border."""
        chain, sums, first = self.chain, Gradients(), self.border.first
        which = range(first, len(chain.manifest.segments))
        chain.down([values], bucket.name, self._shared(), [seeds], sums, which, last)
        self._sums.merge(sums)
        found = {name: seeds[GRAD + name] for name in self.border.smooth}
        loss = sums.loss if math.isfinite(sums.loss) else math.inf
        try:
            data = pack_tensors(found, dict.fromkeys(found, self.wish.coding)) if self.wish.back else b""
        except BadData:  # no number: the board undoes the step
            loss, data = math.inf, b""
        return Note("back", note.step, note.micro, {"loss": loss}, data)

    def _shared(self) -> dict[str, Array]:
        return inputs_of(self.chain.manifest, self.made())

    def _stepped(self, rows: int, share: float) -> None:
        sums, self._sums = self._sums, Gradients()
        trainer = self.trainer if share == 1 else self.trainer.slower(share)
        part = Sums(sums.loss, {n: g for n, g in sums.by_input.items() if n in self.arrays}, rows)
        before = self.arrays, self.state
        try:
            if self.felt is not None and rows:
                self.felt.note(self.arrays, mean_of([part])[1])
            done = trainer.step(self.arrays, self.state, Rows(gradients=lambda arrays: [part]))
        except NotFinite:
            self._step += 1
            return
        self.arrays, self.state, self._before = done.arrays, done.state, before
        self._step, self.steps = self._step + 1, self.steps + 1
        loss = math.nan if done.loss is None else done.loss
        self.losses = (loss if self.steps == 1 else self.losses[0], loss)
        self.advance(self.steps)

    def _undone(self) -> None:
        self._sums, self._open = Gradients(), {}
        self.arrays, self.state = self._before or (self.arrays, self.state)
        self._before, self._step = None, self._step + 1

    def _bucket(self, name: str) -> Bucket:
        return bucket_of(self.chain.manifest, self.wish, name)

    def _expected(self, bucket: Bucket) -> list[Tensor]:
        return expected_at(self.chain.manifest, self.border, bucket)


def opened(border: Border, width: int) -> Note:
    """What a board is told first: the tensors that it is to send, and how many features can come back."""
    return Note("opened", fields={"wanted": list(border.reads), "smooth": list(border.smooth), "width": width})


def bucket_of(manifest: Manifest, wish: Wish, name: str) -> Bucket:
    """The tail's bucket of the same batch and sequence as one of the board.

    Raises:
        BadData: there is none.
    """
    shape = wish.buckets.get(name)
    for bucket in manifest.buckets:
        if shape == shape_of(bucket):
            return bucket
    raise BadData(f"expected micro-batches that the tail has graphs for, found {shape}; export both halves again")


def expected_at(manifest: Manifest, border: Border, bucket: Bucket) -> list[Tensor]:
    """The tensors of a micro-batch, as the graphs of the tail take them."""
    known = tensors_of(manifest.segments[border.first :], bucket.name)
    return [known[name] for name in border.reads]


def tensors_of(segments: tuple[Segment, ...], bucket: str) -> dict[str, Tensor]:
    """What the graphs of some segments take, by name."""
    graphs = [g for s in segments for g in s.graphs if g.bucket == bucket and g.kind in ("forward", "backward")]
    return {t.name: t for g in graphs for t in g.inputs}


def _read_by(segments: tuple[Segment, ...]) -> set[str]:
    return {name for segment in segments for name in segment.inputs}


def refused(error: EdgequiltError) -> Note:
    """Why a board is not served."""
    return Note("refused", fields={"reason": str(error)[:500]})
