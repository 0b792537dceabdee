"""The task of scales: factors of a quantized model's scales learn from labelled rows, in forward passes only.

The head of the adapter stays as it is, and there must be one: through a head of zeros no loss depends on what lies
below it. Fewer factors make each direction worth more (a cosine of sqrt(directions / factors)), so by default a weight
has one for each row, not for each scale. Decoders learn the same factors by `edge.training.tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from console.errors import BadData
from edge.data.row import Row
from edge.runner import Ready, Runner
from edge.trainers.directions import applied
from edge.trainers.interface import Array, Arrays, Rows, Scalars, State
from edge.training.losses import cross_entropy, score_of
from edge.training.task import Score
from wire.adapter import Adapter
from wire.directions import Units
from wire.kinds.scales import Belongs, Replay, ScaleFactors, compact
from wire.manifest import Manifest, Scales


@dataclass(frozen=True)
class Factors:
    """Factors of scales as arrays that learn, and back.

    Attributes:
        adapter: where they start: what it moves besides stays, and so does all else of it.
        moved: the scales that learn, by weight, in running order.
        belongs: what the factors are of, by weight, of those that the adapter moves too.
    """

    adapter: Adapter
    moved: Mapping[str, Scales]
    belongs: Mapping[str, Belongs]

    @property
    def units(self) -> Units:
        """A unit of one array for each weight."""
        return {weight: [one.input] for weight, one in self.moved.items()}

    def start(self) -> dict[str, Array]:
        """Ones, or the adapter's own factors, by graph input."""
        held = {} if self.adapter.scales is None else self.adapter.scales.factors
        return {
            one.input: held[weight].copy() if weight in held else np.ones(self.belongs[weight].shape, np.float32)
            for weight, one in self.moved.items()
        }

    def moving(self, arrays: Arrays) -> Adapter:
        """The adapter with these factors."""
        held = {} if self.adapter.scales is None else dict(self.adapter.scales.factors)
        own = {weight: arrays[one.input] for weight, one in self.moved.items()}
        return replace(self.adapter, scales=ScaleFactors(dict(self.belongs), held | own))


def factors_of(
    manifest: Manifest, adapter: Adapter, layers: Sequence[str] = ("*",), last: int | None = None, *, each: bool = False
) -> Factors:
    """What would learn of a bundle's scales.

    Args:
        manifest: of the bundle.
        adapter: where to start.
        layers: which weights, by patterns of their names as in a shell.
        last: only so many of them, the last in running order; None takes all.
        each: a factor for every scale instead of one for each row of them.

    Raises:
        BadData: nothing could be moved.
    """
    chosen = moved(manifest, layers, last)
    held = {} if adapter.scales is None else adapter.scales.belongs
    shapes = {w: one.shape if each else _by_rows(one.shape) for w, one in chosen.items()}
    # of what the adapter moves already, the shape stays; what is not asked for stays as it is
    belongs = {w: Belongs(one.format, one.digest, shapes[w]) for w, one in chosen.items()} | dict(held)
    return Factors(adapter, chosen, belongs)


class ScaleTask:
    """Rows of a board, some of them kept back.

    Args:
        runner: of a bundle with graphs whose scales can be moved.
        adapter: where to start: its head and its factors stay, its scales go on.
        train: rows to learn from.
        kept_back: rows to judge by.
        layers: which weights, by patterns of their names as in a shell.
        last: only so many of them, the last in running order; None takes all.
        each: a factor for every scale instead of one for each row of them.

    Raises:
        BadData: no rows; no head that is not zero; nothing that could be moved; the adapter is of another model.
    """

    def __init__(
        self,
        runner: Runner,
        adapter: Adapter,
        train: Sequence[Row],
        kept_back: Sequence[Row] = (),
        *,
        layers: Sequence[str] = ("*",),
        last: int | None = None,
        each: bool = False,
    ) -> None:
        if not train:
            raise BadData("expected rows to train on, found none; give the board data or a smaller hold-out")
        if adapter.head is None or not adapter.head.weight.any():
            raise BadData("expected an adapter with a head to train scales below it, found none; solve one first")
        self.runner, self._train, self._kept_back = runner, train, kept_back
        self._factors = factors_of(runner.manifest, adapter, layers, last, each=each)
        self._ready: Ready | None = None
        self._judged: Ready | None = None

    def __len__(self) -> int:
        return len(self._train)

    @property
    def truncated(self) -> int:
        """Texts and sounds that are too long."""
        return self._prepared().truncated

    def _prepared(self) -> Ready:
        if self._ready is None:
            self._ready = self.runner.ready([row.sample for row in self._train])
        return self._ready

    @property
    def units(self) -> Units:
        """A unit of one array for each weight."""
        return self._factors.units

    def start(self) -> dict[str, Array]:
        """Ones, or the adapter's own factors, by graph input."""
        return self._factors.start()

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Losses of some rows; the graphs have no gradients of scales."""
        part, labels = self._prepared().part(chosen), np.array([self._train[i].label for i in chosen], np.int64)

        def loss(arrays: Arrays) -> float:
            return float(np.mean(cross_entropy(self.runner.forward(part, self.adapter(arrays)).logits, labels)))

        return Rows(loss)

    def score(self, arrays: Arrays) -> Score | None:
        """Loss and right answers on the rows that were kept back."""
        if not self._kept_back:
            return None
        if self._judged is None:
            self._judged = self.runner.ready([row.sample for row in self._kept_back])
        logits = self.runner.forward(self._judged, self.adapter(arrays)).logits
        return score_of(logits, np.array([row.label for row in self._kept_back], np.int64))

    def adapter(self, arrays: Arrays) -> Adapter:
        """The adapter with these factors."""
        return self._factors.moving(arrays)


def moved(manifest: Manifest, layers: Sequence[str] = ("*",), last: int | None = None) -> dict[str, Scales]:
    """The scales that can be moved, by weight, in running order.

    Raises:
        BadData: none can, or none is called so.
    """
    if not manifest.scales:
        raise BadData("expected graphs whose scales can be moved, found none; export with --scale-inputs")
    named = {s.weight: s for s in manifest.scales if any(fnmatchcase(s.weight, pattern) for pattern in layers)}
    if not named:
        some = ", ".join(s.weight for s in manifest.scales[:3])
        raise BadData(f"expected weights that match {' or '.join(layers)}, found none; some are {some}")
    return dict(list(named.items())[-last:] if last else named)


def replayed_by(key: int, state: State, directions: int) -> Scalars:
    """The pairs of a trainer of scales, as its update has them."""
    return Scalars(key, tuple(applied(state)), directions)


def small(adapter: Adapter, update: Scalars, board: int = 0) -> Adapter:
    """The same factors as the pairs that make them, where those are smaller and give the same bits.

    Args:
        adapter: of a task.
        update: of the trainer that trained it.
        board: the trainer's.
    """
    if adapter.scales is None:
        return adapter
    replay = Replay(update.key, board, update.per_step, update.pairs)
    return replace(adapter, scales=compact(adapter.scales, replay))


def _by_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A factor for each row of scales; of scales without rows one for each."""
    return (shape[0], *[1] * (len(shape) - 1))
