"""Importance of slots from the gradients of their weights on rows of data, batch by batch.

The gradients are those of the project's own backward graphs (`export.gradient`), asked for the weights themselves
instead of adapters. Under a head its weights are solved from the rows first (linear discriminant, as a hub does from
statistics): a head of zeros lets no gradient through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError
from export.chain import Graph
from export.gradient.backward import LossSpec, build_backward, gradient_name
from export.importance.rows import IGNORED, Batch, batches_of
from export.importance.weights import SlotWeight, weights_of
from export.study.data import Items
from export.write import write_graphs
from wire.discriminant import solve
from wire.importance import fedpipe, hsplitlora
from wire.importance.file import FORMAT, SCHEMA, Importance, SlotImportance
from wire.kinds.head import gather

if TYPE_CHECKING:
    from export.prepare import Prepared

ROWS = 128  # that are measured on
BATCH = 4  # rows of a measurement: many small ones tell how much it fluctuates
AT_ONCE_BYTES = 256 << 20  # of gradients that one graph makes
Array = NDArray[Any]
Advance = Callable[[int], None]


def measure(
    prepared: Prepared,
    items: Items,
    labels: Sequence[str],
    work: Path,
    *,
    model: str = "",
    rows: int = ROWS,
    advance: Advance = lambda n: None,
) -> Importance:
    """The importance of every slot of kind `lora`.

    Args:
        prepared: a model that learns; boards are of no matter.
        items: rows of data; under a head with labels.
        labels: of the head, in the order of its logits.
        work: a folder for graphs, which are removed again.
        model: its id, for the file.
        rows: most of `items` that are used, evenly spread.
        advance: told the slots done, of `len(slots_of(prepared))`.

    Raises:
        UsageError: the model does not learn, or rows have no labels.
        BadData: rows do not fit the model.
        NoGradientRule: it cannot be differentiated.
    """
    batch, logits = _batch(prepared), _logits(prepared)
    items = items.spread(rows)
    found = batches_of(prepared, items, labels, batch)
    head = _head(prepared, found, batch, work)
    slots: dict[str, SlotImportance] = {}
    for some in _portions(slots_of(prepared)):
        graph, states = _backward(prepared, some, logits, batch, work), [_begun(weight) for weight in some]
        for one in found:
            made = graph({**one.feeds, **head, "labels": one.labels, "weights": _ones(one)})
            for state in states:
                state.add(made[gradient_name(state.weight.name)] / one.counted)
        slots |= {state.weight.slot: SlotImportance(*state.scores, state.count) for state in states}
        advance(len(some))
    return Importance(FORMAT, SCHEMA, model, "data", len(found), slots, len(items))


def slots_of(prepared: Prepared) -> list[SlotWeight]:
    """The slots that are measured.

    Raises:
        UsageError: none.
    """
    found = weights_of(prepared.whole(_batch(prepared)), prepared.sites)
    if not found:
        raise UsageError("expected slots of kind lora to measure the importance of, found none; see --adapter-targets")
    return found


@dataclass
class _State:
    """What is known of one slot: the average of HSplitLoRA, and S and U of FedPipe for its directions."""

    weight: SlotWeight
    matrix: Array
    of: fedpipe.Directions
    product: float = 0.0
    count: int = 0
    parts: dict[str, fedpipe.Sensed] = field(default_factory=dict)

    def add(self, stored: Array) -> None:
        """One more gradient, of the mean loss of a batch."""
        gradient = self.weight.matrix(stored)
        self.product = hsplitlora.averaged(self.product, hsplitlora.product(self.matrix, gradient), self.count)
        found = fedpipe.measured(self.of, gradient)
        self.parts = {name: fedpipe.sensed(self.parts.get(name), value) for name, value in found.items()}
        self.count += 1

    @property
    def scores(self) -> tuple[float, float]:
        """By HSplitLoRA and by FedPipe."""
        return self.product, fedpipe.score(self.parts)


def _begun(weight: SlotWeight) -> _State:
    matrix = weight.read()
    return _State(weight, matrix, fedpipe.directions(matrix))


def _batch(prepared: Prepared) -> int:
    """Rows of a run, as near to `BATCH` as the model allows."""
    return min(prepared.batches, key=lambda size: abs(size - BATCH))


def _logits(prepared: Prepared) -> str:
    if prepared.head is not None:
        return prepared.head.logits_output
    if prepared.captured.loss is not None:
        return prepared.captured.loss.logits
    raise UsageError(
        f"expected a model that learns to measure importance of, found {prepared.captured.name} with its own outputs; "
        "give --labels for a head, or take a decoder (--task text-generation) in mode train"
    )


def _portions(weights: Sequence[SlotWeight]) -> Iterator[list[SlotWeight]]:
    """Slots whose gradients one graph makes."""
    some, size = list[SlotWeight](), 0
    for weight in weights:
        if some and size + weight.bytes > AT_ONCE_BYTES:
            yield some
            some, size = [], 0
        some, size = [*some, weight], size + weight.bytes
    if some:
        yield some


def _backward(prepared: Prepared, weights: Sequence[SlotWeight], logits: str, batch: int, work: Path) -> Graph:
    """The session that makes the gradients of some weights; its files are removed, their pages stay mapped."""
    model = build_backward(prepared.whole(batch), wanted=[one.name for one in weights], loss=LossSpec(logits=logits))
    return _opened(model, "importance", work)


def _opened(model: Any, name: str, work: Path) -> Graph:
    try:
        write_graphs({name: model}, work, f"{name}.bin")
        return Graph(work / f"{name}.onnx")
    finally:
        for suffix in (".onnx", ".bin"):
            (work / f"{name}{suffix}").unlink(missing_ok=True)


def _head(prepared: Prepared, found: Sequence[Batch], batch: int, work: Path) -> Mapping[str, Array]:
    """Weight and bias of a head for these rows; nothing where there is none.

    Raises:
        BadData: all rows are of one class.
    """
    site = prepared.head
    if site is None:
        return {}
    graph = _opened(prepared.whole(batch).clone(), "features", work)
    counted = [one.labels != IGNORED for one in found]
    features = [graph(one.feeds)[site.features_output][kept] for one, kept in zip(found, counted, strict=True)]
    classes = np.concatenate([one.labels[kept] for one, kept in zip(found, counted, strict=True)])
    if len(set(classes.tolist())) < 2:
        raise BadData("expected rows of at least two classes to measure importance on, found one; add others")
    head = solve(gather(np.concatenate(features), classes, prepared.classes))
    return {site.weight: head.weight, site.bias: head.bias}


def _ones(one: Batch) -> Array:
    return np.ones(one.labels.shape, np.float32)
