"""The model that is studied: which graph is run, what it reads, and what its outputs are.

Of a decoder the graph is not the one that boards get, which takes a token at a time, but the same export with all
tokens of a text at once and empty caches: weights and products are the same, and a text takes one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass

from console.errors import UnsupportedModel, UsageError
from export.fold import FLOATS, freeze
from export.gradient.dims import shape_of
from export.linears import name_weights
from export.prepare import Wanted, prepare
from export.sources.captured import Captured
from export.sources.decoder import LOGITS, PAST, SEQUENCE

Kind = Literal["decoder", "classes", "features"]
SEQUENCE_TOKENS = 64  # of a text, where nothing is said, as for an export


@dataclass(frozen=True)
class Subject:
    """A captured model, the graph that is run of it, and how many tokens a text has (None where it reads none)."""

    captured: Captured
    graph: ir.Model
    sequence: int | None

    @property
    def is_decoder(self) -> bool:
        """Whether it says what the next token is."""
        return self.captured.generate is not None

    @property
    def reads_text(self) -> bool:
        """Whether tokens go in."""
        return self.sequence is not None

    @cached_property
    def batch(self) -> int:
        """Items of a call: one, or as few as the graph allows."""
        allowed = None if self.is_decoder else self.captured.batches
        return 1 if allowed is None else min(allowed)

    def frozen(self, batch: int, sequence: int | None = None) -> ir.Model:
        """The graph for a call of `batch` items, of `sequence` tokens if it reads text."""
        length = sequence or self.sequence
        if not self.is_decoder or length is None:
            return freeze(self.graph, batch, length, self.captured.sizes)
        together = {f"{PAST}{plus}{SEQUENCE}": length for plus in (" + ", "+")}
        return freeze(self.graph, batch, length, {"batch_size": batch, SEQUENCE: length, PAST: 0, **together})

    def outputs(self, frozen: ir.Model) -> list[str]:
        """Its float outputs, but for states."""
        states = {pair.output for pair in self.captured.states}
        return [str(v.name) for v in frozen.graph.outputs if v.dtype in FLOATS and v.name not in states]

    def logits(self, frozen: ir.Model, *, named: bool) -> tuple[str, int] | None:
        """The output [batch, classes] that tells classes apart, and how many there are; None where there is none.

        Args:
            frozen: its graph.
            named: whether somebody speaks of classes: then a lone output [batch, n] is taken for logits.
        """
        names = self.outputs(frozen)
        counts = {str(v.name): _classes(v) for v in frozen.graph.outputs if v.name in names}
        flat = [name for name in names if counts[name] > 1]
        name = LOGITS if LOGITS in flat else flat[0] if len(names) == 1 and flat and named else None
        return None if name is None else (name, counts[name])

    def pooled(self, frozen: ir.Model) -> str:
        """The first output [batch, tokens, features] or [batch, features], of which an item has a vector; or none."""
        wanted = set(self.outputs(frozen))
        shapes = {str(v.name): shape_of(v) or () for v in frozen.graph.outputs if v.name in wanted}
        return next((name for name, shape in shapes.items() if len(shape) in (2, 3)), "")


def subject(wanted: Wanted, sequence: int | None, work: Path) -> Subject:
    """Capture a model to study.

    Args:
        wanted: the model; slots and head are none of the study's.
        sequence: tokens of a text; None for 64, or as many as the model can place.
        work: a folder for the graph and its weights.

    Raises:
        UsageError: the sequence is longer than the model can place, or it reads no text.
        UnsupportedModel: see `prepare`; or an encoder-decoder.
    """
    captured = prepare(wanted, ("fp32",), ("serve",), work).captured
    if captured.generate is not None and captured.generate.kind == "prefix":
        raise UnsupportedModel(
            f"expected an encoder, a decoder or a net to study, found the encoder-decoder {captured.name}; "
            "its encoder alone can be studied with --task feature-extraction"
        )
    if captured.generate is None and captured.modality != "text":
        if sequence is not None:
            raise UsageError(f"expected no --sequence for {captured.name}, which reads no text; leave it out")
        return Subject(captured, captured.model, None)
    graph = captured.model if captured.generate is None else _whole_texts(captured)
    return Subject(captured, graph, _sequence(captured, sequence))


def _whole_texts(captured: Captured) -> ir.Model:
    """The exporter's own graph, in which tokens and caches have any length, with its logits only."""
    model = ir.load(captured.original)
    IdentityEliminationPass()(model)
    name_weights(model)
    model.graph.outputs[:] = _only(model.graph.outputs, LOGITS)
    return model


def _only(values: Sequence[ir.Value], name: str) -> list[ir.Value]:
    found = [value for value in values if value.name == name]
    if not found:
        raise UnsupportedModel(f"expected a decoder with an output {name}, found none; choose another model")
    return found


def _classes(value: ir.Value) -> int:
    """The second of two dimensions; 0 where there are not two."""
    shape = shape_of(value) or ()
    return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else 0


def _sequence(captured: Captured, sequence: int | None) -> int:
    longest = captured.preprocess.parameters.get("max_length")
    least = 2 if captured.generate is not None else 1  # a lone token has no next one
    if sequence is None:
        return min(SEQUENCE_TOKENS, int(longest or SEQUENCE_TOKENS))
    if sequence < least or (longest is not None and sequence > longest):
        most = "" if longest is None else f" to {longest}"
        raise UsageError(f"expected a --sequence of {least}{most} tokens for this model, found {sequence}")
    return sequence
