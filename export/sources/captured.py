"""What every door of `export.sources` returns: a graph, what it was made from, and how it is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import onnx_ir as ir
from numpy.typing import NDArray

from export.preprocess import Preprocessing
from wire.manifest import Generate, Loss

# text and image models have a tokenizer or picture parameters; `tensors` takes arrays as they are
Values: TypeAlias = dict[str, NDArray[Any]]
# inputs to check with, one per run in order: of a micro-batch and a sequence, drawn from a seed, or real ones where
# it is None
REAL_SEED = 7  # where no real input is known
Samples: TypeAlias = Callable[[int, int | None, int | None], Sequence[Values]]
# what the original computes from such inputs, run by run
Reference: TypeAlias = Callable[[Sequence[Values]], Sequence[Values]]
Modality: TypeAlias = Literal["text", "image", "tensors"]


@dataclass(frozen=True)
class StatePair:
    """State in, state out: the output of one run is the input of the next, of equal type and shape.

    A recurrent net's hidden state and a decoder's KV cache are the same to everything behind a door. The first
    run starts from zeros.
    """

    input: str
    output: str


@dataclass(frozen=True)
class Captured:
    """A model as its exporter wrote it, before anything of ours is in it.

    Attributes:
        model: symbolic dimensions of its inputs are `batch` (the micro-batch), `sequence` (tokens of a text) or
            names that `sizes` knows. Weights stay in mapped files.
        name: of the model, for people.
        task: as optimum names tasks, or `onnx`, `module`.
        source_sha256: of the bytes that it came from.
        modality: what its inputs are.
        hidden: the output that a head is put on where nobody names one; None where it is the only one there is, or
            nobody knows.
        preprocess: what boards do to a sample.
        original: the untouched ONNX file that verification compares with.
        modules: the module path of the original model by a weight's initializer name.
        states: pairs of an input and an output that carry state from run to run.
        sizes: what symbolic dimensions other than `batch` and `sequence` are.
        batches: micro-batches that the graph allows; None for any.
        labels: names of the classes that the model itself tells apart, in the order of its logits.
        sample: real inputs by name, as the user gave them; their first dimension may be shorter than a micro-batch.
        samples: inputs to check with, where drawing them from shapes would not do (a decoder's).
        reference: what the original computes, where running it on the same inputs would not do.
        generate: how tokens come out of it, where it makes text.
        loss: what it is trained by without a head of ours; None where it only serves.
    """

    model: ir.Model
    name: str
    task: str
    source_sha256: str
    modality: Modality
    hidden: str | None
    preprocess: Preprocessing
    original: Path
    modules: dict[str, str]
    states: tuple[StatePair, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    batches: tuple[int, ...] | None = None
    labels: tuple[str, ...] = ()
    sample: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    samples: Samples | None = None
    reference: Reference | None = None
    generate: Generate | None = None
    loss: Loss | None = None
