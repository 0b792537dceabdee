"""The manifest of a bundle: everything that a board, a hub or a person must know about it (docs/bundle.md)."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Literal

from console.errors import BadData
from wire.borders import Split
from wire.contradictions import contradictions
from wire.json_text import parse_json
from wire.record import DIGEST, NAME, at_least, matching, plain, read_record
from wire.tables import Table
from wire.work import Work

SCHEMA = 1
LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class File:
    """A blob of the bundle."""

    path: str
    bytes: int = field(metadata=at_least(0))
    sha256: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """A named, typed value that enters, leaves or crosses. A text dimension is symbolic."""

    name: str
    dtype: str
    shape: tuple[Any, ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bucket:
    """A fixed batch, and for text a fixed sequence length in tokens."""

    name: str
    batch: int = field(metadata=at_least(1))
    sequence: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """Session options of one graph; they belong to the graph, since they make its memory and its numbers."""

    graph_optimization: Literal["disable", "basic", "extended", "all"]
    execution_order: Literal["default", "priority"]
    memory_pattern: bool
    cpu_arena: bool
    config: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Peak memory of a fresh process with this graph: predicted, and measured where `machine` says."""

    predicted_bytes: int
    measured_bytes: int | None = None
    base_bytes: int | None = None  # the same process with the runtime imported and no session
    step_s: float | None = None
    machine: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """One ONNX file of a segment.

    A `serve` graph is a `forward` one without slots: it takes no adapter. A `scales` graph is a `forward` one that also
    takes factors of its weights' scales. `work` is what its nodes do at one run (`wire.work`).
    """

    kind: Literal["forward", "backward", "serve", "scales"]
    bucket: str
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Options
    memory: Measured
    work: tuple[Work, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """A piece of the model. Its first graph inputs are the boundary from the segment before."""

    name: str
    inputs: tuple[str, ...]  # boundary tensors and model inputs that it reads
    outputs: tuple[str, ...]  # boundary tensors that it makes, or features and logits
    differentiable: tuple[str, ...]  # those of `inputs` whose gradient the backward graph returns
    slots: tuple[str, ...]
    graphs: tuple[Graph, ...]
    weights: tuple[str, ...]  # external data files shared by its graphs
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """A place for an adapter beside `module`, with the names of the graph inputs that it is fed by.

    Kind `lora`: y = x W + scale ((x A) B), A [in, r], B [r, out]. Kind `bias`: y + delta, delta [out], fed as `bias`.
    A module has at most one slot of a kind; slots of different kinds share its name. `window` is a convolution's:
    channels per group, then the kernel, whose product is `features_in`; `groups` its groups.
    """

    name: str
    module: str
    kind: Literal["lora", "bias"]
    features_in: int = field(metadata=at_least(1))
    features_out: int = field(metadata=at_least(1))
    segment: str
    a: str
    b: str
    scale: str
    bias: str = ""
    window: tuple[int, ...] = ()
    groups: int = field(default=1, metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scales:
    """The quantization scales of a weight, which the `scales` graph of a segment multiplies by what `input` is fed.

    `shape` is the scales' own, [rows, blocks] or [scales]; what is fed has as many axes, each as long or 1 long.
    `digest` is the SHA-256 of format and stored bytes: what is learned belongs to it.
    """

    input: str
    weight: str
    format: str
    segment: str
    shape: tuple[int, ...]
    digest: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """logits = features W + b, with W [features, classes] and b [classes] as graph inputs."""

    features: int = field(metadata=at_least(1))
    weight: str
    bias: str
    features_output: str
    logits_output: str
    segment: str
    pooling: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preprocess:
    """How text or pictures become input tensors on the board; `tensors` are fed as they are."""

    kind: Literal["text", "image", "tensors"]
    files: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """State in, state out: zeros at first, then what the run before returned. KV caches and recurrent nets alike."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Generate:
    """How tokens come out of the model, one after the other, each the likeliest (docs/bundle.md).

    `cached`: a run takes one token, and caches are states. `prefix`: a run takes all tokens so far, filled up on
    the right.
    """

    kind: Literal["cached", "prefix"]
    tokens: str  # the input of token ids: int64 [1, 1] where cached, else [1, context]
    logits: str  # the output [1, 1 or context, vocabulary]
    context: int = field(metadata=at_least(1))  # most tokens that runs may see
    mask: str | None = None  # cached: the input int64 [1, context] of what is filled, the newest last
    positions: str | None = None  # the input int64, shaped as `tokens`, that says the how-manieth token it is, from 0
    start: tuple[int, ...] = ()  # what is before the first token where the prompt goes elsewhere (an encoder)
    end: tuple[int, ...] = ()  # tokens that end an answer
    pad: int = 0
    never: tuple[int, ...] = ()  # tokens that are not chosen
    never_first: tuple[int, ...] = ()
    forced: dict[str, int] = field(default_factory=dict)  # what the token of an index is, counted with `start`
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """What a model without a head is trained by (docs/bundle.md).

    `next-token`: the cross entropy of each token's logits with the token that follows it in the text.
    """

    kind: Literal["next-token"]
    logits: str  # the output [batch, sequence, vocabulary] that is judged
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """One model over several boards: this bundle is stage `position` (from 0) of `devices`, in running order."""

    id: str = field(metadata=matching(NAME))
    position: int = field(metadata=at_least(0))
    devices: tuple[str, ...]
    objective: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Golden:
    """Input and output of the chain, as the exporter computed them, in one safetensors file."""

    file: str
    bucket: str
    relative_tolerance: float = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """What was exported, the same for every board of a fleet."""

    id: str = field(metadata=matching(NAME))
    name: str
    task: str
    source_sha256: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What was decided for this board (docs/plan.md).

    `ranks` are of single slots, where a plan of a fleet gave each its own; one that is not named learns nothing here.
    """

    device: str
    mode: Literal["train", "serve", "train-forward"]
    quant: str
    rank: int = field(metadata=at_least(0))
    micro_batch: int = field(metadata=at_least(1))
    cuts: tuple[int, ...]
    budget_bytes: int = field(metadata=at_least(0))
    predicted_bytes: int = field(metadata=at_least(0))
    ranks: dict[str, int] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def rank_of(self, slot: str) -> int:
        """Of one slot; 0 of one that learns nothing here."""
        return self.ranks.get(slot, 0) if self.ranks else self.rank


@dataclass(frozen=True)
class Manifest:
    """A bundle. Read it with `parse_manifest`; constructors trust."""

    schema: int
    edgequilt: str
    model: Model
    plan: Plan
    files: tuple[File, ...]
    inputs: tuple[Tensor, ...]
    buckets: tuple[Bucket, ...]
    segments: tuple[Segment, ...]
    slots: tuple[Slot, ...]
    head: Head | None
    labels: tuple[str, ...]
    preprocess: Preprocess
    golden: Golden
    quantization: tuple[dict[str, Any], ...] = ()
    outputs: tuple[Tensor, ...] = ()  # of the whole model; empty in bundles of a version that had heads only
    states: tuple[State, ...] = ()
    chain: Chain | None = None
    generate: Generate | None = None
    tables: tuple[Table, ...] = ()
    scales: tuple[Scales, ...] = ()
    loss: Loss | None = None  # of a model that is trained without a head; a head's own is cross entropy
    split: Split | None = None
    from_features: Graph | None = None  # of a tail: its last way back, from the gradient of the head's features
    extra: dict[str, Any] = field(default_factory=dict)

    def slot(self, name: str, kind: str = "lora") -> Slot:
        """The slot of that name and kind."""
        return next(s for s in self.slots_of(kind) if s.name == name)

    def slots_of(self, kind: str) -> tuple[Slot, ...]:
        """The slots of a kind, in the order of the graph."""
        return tuple(s for s in self.slots if s.kind == kind)

    def serving(self, segment: Segment, bucket: str, *, bare: bool, fed: Container[str] = ()) -> Graph:
        """The forward graph of a segment; where it is `bare` and there is one, that without slots.

        Where factors of its scales are among what is `fed`, that which takes them.

        Raises:
            BadData: as `graph`.
        """
        if any(one.segment == segment.name and one.input in fed for one in self.scales):
            return self.graph(segment, "scales", bucket)
        has = bare and any(g.kind == "serve" and g.bucket == bucket for g in segment.graphs)
        return self.graph(segment, "serve" if has else "forward", bucket)

    def graph(self, segment: Segment, kind: str, bucket: str) -> Graph:
        """The graph of a segment for a bucket.

        Raises:
            BadData: this bundle has none of that kind.
        """
        for graph in segment.graphs:
            if graph.kind == kind and graph.bucket == bucket:
                return graph
        way = "--scale-inputs" if kind == "scales" else "--mode train"
        raise BadData(f"expected a {kind} graph for bucket {bucket} in {segment.name}, found none; export with {way}")


def to_bytes(manifest: Manifest) -> bytes:
    """The JSON that is written and signed."""
    return json.dumps(plain(manifest), indent=1, ensure_ascii=False).encode() + b"\n"


def parse_manifest(data: bytes, where: str = "the manifest") -> Manifest:
    """Read a manifest; unknown fields are kept.

    Raises:
        BadData: every field that is absent or wrong, and every name that points nowhere.
    """
    try:
        decoded = parse_json(data, finite=False)  # what was measured may be no number
    except ValueError as error:
        raise BadData(f"expected JSON in {where}, found something else ({error}); export the bundle again") from error
    if isinstance(decoded, dict) and decoded.get("schema") != SCHEMA:
        raise BadData(
            f"expected {where} of schema {SCHEMA}, found {decoded.get('schema')!r}; update edgequilt or export again"
        )
    manifest = read_record(Manifest, decoded, where)
    problems = contradictions(manifest)
    if problems:
        raise BadData(f"{where} contradicts itself: {'; '.join(problems)}")
    return manifest
