"""Which output of a model a head goes on, and how it becomes one vector per item.

[batch, features] is one already. Of [batch, tokens, features] the mean over tokens is taken, over those that
attention_mask marks where a model reads one; of [batch, channels, height, width] the mean over pixels; the features'
axis can be named where it is another one (a picture with its channels last).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_ir as ir

from console.errors import UnsupportedModel, UsageError
from export.fold import freeze
from export.sources.captured import Captured

Pooling: TypeAlias = Literal["none", "mean", "pixels"]

ODD_BATCH = 7  # no model of any micro-batch has it by chance
MASK = "attention_mask"
# of a head: the second name where an input of the model has the first
CALLED, LOGITS = ("features", "head.features"), "logits"


@dataclass(frozen=True)
class Features:
    """An output that a head goes on.

    Attributes:
        name: of the output.
        shape: it has at some micro-batch, which is its first dimension.
        axis: of the features.
    """

    name: str
    shape: tuple[int, ...]
    axis: int

    @property
    def size(self) -> int:
        """How many features there are."""
        return self.shape[self.axis]

    @property
    def pooled(self) -> tuple[int, ...]:
        """The axes over which a mean is taken."""
        return tuple(axis for axis in range(1, len(self.shape)) if axis != self.axis)

    @property
    def pooling(self) -> Pooling:
        """What that is called."""
        if not self.pooled:
            return "none"
        return "mean" if len(self.shape) == 3 and self.axis == 2 else "pixels"


def find_features(captured: Captured, sequence: int | None, name: str = "", axis: int | None = None) -> Features:
    """The output that a head goes on, with its shape.

    Args:
        captured: a model without slots and head; left as it is.
        sequence: tokens of a text.
        name: of the output; by default the source's own, or the only one of float32 that is no state.
        axis: of the features; by default the second of [batch, channels, height, width], else the last.

    Raises:
        UsageError: there is no such output or axis, or several that it could be.
        UnsupportedModel: the model has no such output, or its first dimension is not the micro-batch.
    """
    chosen = _chosen(captured, name)
    batch = ODD_BATCH if captured.batches is None else captured.batches[0]
    shape = _shape(captured, chosen, batch, sequence)
    if len(shape) < 2 or shape[0] != batch:
        raise UnsupportedModel(
            f"expected an output [batch, ..., features] for a head, found {chosen} {list(shape)} at micro-batch "
            f"{batch} in {captured.name}; export the model with the micro-batch as first dimension, or say --features"
        )
    at = axis if axis is not None else 1 if len(shape) > 3 else len(shape) - 1
    at = at + len(shape) if at < 0 else at
    if not 1 <= at < len(shape):
        raise UsageError(f"expected --features-axis of 1 to {len(shape) - 1} for {chosen} {list(shape)}, found {axis}")
    return Features(chosen, shape, at)


def _chosen(captured: Captured, name: str) -> str:
    states = {pair.output for pair in captured.states}
    outputs = [
        str(value.name)
        for value in captured.model.graph.outputs
        if value.dtype in (ir.DataType.FLOAT, None) and value.name not in states
    ]
    if name:
        if name not in outputs:
            raise UsageError(
                f"expected --features with a float32 output of {captured.name}, found {name!r}; "
                f"it has {', '.join(outputs) or 'none'}"
            )
        return name
    if captured.hidden is not None:
        return captured.hidden
    if len(outputs) == 1:
        return outputs[0]
    if not outputs or captured.generate is not None:
        raise UnsupportedModel(
            f"expected a model with an output [batch, ..., features] for a head, found none in {captured.name}; "
            "leave --labels out to export it with its own outputs"
        )
    raise UsageError(
        f"expected --features OUTPUT with the one of {captured.name} that a head goes on, found none; "
        f"it has {', '.join(outputs)}"
    )


def _shape(captured: Captured, name: str, batch: int, sequence: int | None) -> tuple[int, ...]:
    """Of an output at a micro-batch; of texts what the exporter wrote says enough."""
    value = next(value for value in captured.model.graph.outputs if value.name == name)
    size = None if value.shape is None or len(value.shape) != 3 else value.shape[-1]
    if captured.modality == "text" and isinstance(size, int):
        return (batch, sequence or 1, size)
    frozen = freeze(captured.model, batch, sequence, captured.sizes)
    found = next(value for value in frozen.graph.outputs if value.name == name).shape
    return tuple(dim for dim in found or () if isinstance(dim, int))
