"""Plain numbers that follow from a manifest: what crosses, what weighs how much, what stayed in float32."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from export.report.findings import Findings, Weight
from wire.manifest import Manifest, Segment, Tensor
from wire.record import LARGEST

BOUNDARY = re.compile(r"(?:cut|border)\d+\.\d+")
ITEM_BYTES = {
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}

Origin = Literal["boundary", "state", "model", "table"]


@dataclass(frozen=True)
class Value:
    """A tensor that enters or leaves a segment.

    It is of another segment, of the run before, of the model itself, or rows of a table beside the graphs.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    bytes: int | None  # None where a dimension or the type is not a number
    origin: Origin

    def __str__(self) -> str:
        """As people write it: name, type, shape."""
        return " ".join(part for part in (self.name, self.dtype, shape_words(self.shape) if self.dtype else "") if part)


@dataclass(frozen=True)
class SegmentFacts:
    """A segment's edges and sizes. `crossing_bytes`: boundaries that enter, for one run of a micro-batch."""

    name: str
    reads: tuple[Value, ...]
    gives: tuple[Value, ...]
    crossing_bytes: int
    weight_bytes: int
    slots: int
    kinds: tuple[str, ...]  # of its graphs


@dataclass(frozen=True)
class FormatFacts:
    """All weights of one format."""

    format: str
    weights: int
    bytes_before: int
    bytes_after: int
    worst_relative_error: float | None


@dataclass(frozen=True)
class Stayed:
    """Weights that stayed in float32, or have another format than was asked for, for one reason."""

    reason: str
    weights: int
    bytes: int
    names: tuple[str, ...]


def shape_words(shape: Sequence[object]) -> str:
    """A shape as text.

    >>> shape_words((2, 32, "width"))
    '[2, 32, width]'
    """
    return f"[{', '.join(map(str, shape))}]"


def tensor_bytes(dtype: str, shape: Sequence[object]) -> int | None:
    """Bytes of a tensor, or None where that cannot be said.

    >>> tensor_bytes("float32", (2, 32, 384)), tensor_bytes("int64", ()), tensor_bytes("float32", ("batch", 3))
    (98304, 8, None)
    """
    total = ITEM_BYTES.get(dtype)
    for size in shape:
        if total is None or not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < LARGEST:
            return None
        total *= size
    return total if total is not None and total < LARGEST else None


def segment_facts(manifest: Manifest, before: Manifest | None = None) -> tuple[SegmentFacts, ...]:
    """The segments of a bundle.

    Args:
        manifest: of the bundle.
        before: of the stage before it in a chain of boards, whose last segment makes the first boundary.
    """
    made = {name for segment in before.segments for name in segment.outputs} if before is not None else set()
    sizes = {file.path: file.bytes for file in manifest.files}
    out = []
    for segment in manifest.segments:
        reads = tuple(_value(manifest, segment, name, _origin(manifest, name, made)) for name in segment.inputs)
        made |= set(segment.outputs)
        gives = tuple(_value(manifest, segment, name, _destination(manifest, name)) for name in segment.outputs)
        crossing = sum(value.bytes or 0 for value in reads if value.origin == "boundary")
        weights = sum(sizes.get(path, 0) for path in set(segment.weights))
        kinds = tuple(dict.fromkeys(graph.kind for graph in segment.graphs))
        out.append(SegmentFacts(segment.name, reads, gives, crossing, weights, len(segment.slots), kinds))
    return tuple(out)


def _origin(manifest: Manifest, name: str, made: set[str]) -> Origin:
    if any(name == state.input for state in manifest.states):
        return "state"
    if any(name == lookup.input for table in manifest.tables for lookup in table.lookups):
        return "table"
    known = any(name == tensor.name for tensor in manifest.inputs)
    return "boundary" if name in made or BOUNDARY.fullmatch(name) or not known else "model"


def _destination(manifest: Manifest, name: str) -> Origin:
    if any(name == state.output for state in manifest.states):
        return "state"
    outputs = {tensor.name for tensor in manifest.outputs}
    if manifest.head is not None:
        outputs |= {manifest.head.features_output, manifest.head.logits_output}
    read = any(name in segment.inputs for segment in manifest.segments)
    return "boundary" if BOUNDARY.fullmatch(name) or (read and name not in outputs) else "model"


def _value(manifest: Manifest, segment: Segment, name: str, origin: Origin) -> Value:
    known: dict[str, Tensor] = {tensor.name: tensor for tensor in (*manifest.outputs, *manifest.inputs)}
    for graph in reversed(segment.graphs):  # the first graph of a segment says what its bucket is
        known |= {tensor.name: tensor for tensor in (*graph.inputs, *graph.outputs)}
    tensor = known.get(name, Tensor(name, "", ()))
    shape = tuple(size if isinstance(size, int) else str(size) for size in tensor.shape)
    return Value(name, tensor.dtype, shape, tensor_bytes(tensor.dtype, tensor.shape), origin)


def format_facts(found: Findings) -> tuple[FormatFacts, ...]:
    """Weights by format, the largest first."""
    groups: dict[str, list[Weight]] = {}
    for weight in found.quantization:
        groups.setdefault(weight.format, []).append(weight)
    rows = [
        FormatFacts(
            name,
            len(weights),
            sum(w.bytes_before for w in weights),
            sum(w.bytes_after for w in weights),
            max((w.relative_error for w in weights if w.relative_error is not None), default=None),
        )
        for name, weights in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.bytes_before))


def instead_facts(found: Findings) -> tuple[Stayed, ...]:
    """What has another format than was asked for, though not float32, by reason."""
    groups: dict[str, list[Weight]] = {}
    for weight in found.quantization:
        if weight.format != "fp32" and weight.reason:
            groups.setdefault(weight.reason, []).append(weight)
    return _grouped(groups)


def stayed_facts(found: Findings) -> tuple[Stayed, ...]:
    """What stayed in float32, by reason, the largest first."""
    groups: dict[str, list[Weight]] = {}
    for weight in found.quantization:
        if weight.format == "fp32":
            groups.setdefault(weight.reason or "no reason given", []).append(weight)
    return _grouped(groups)


def _grouped(groups: Mapping[str, list[Weight]]) -> tuple[Stayed, ...]:
    rows = [
        Stayed(reason, len(weights), sum(w.bytes_after for w in weights), tuple(w.name for w in weights))
        for reason, weights in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.bytes))
