"""Decoders without caches, as they are trained: a run takes whole texts, and every token is asked for the next one.

The graph computes what the one with caches computes token by token, and its layers have the same module paths: an
adapter that is trained here belongs to both.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import UnsupportedModel
from export import feeds
from export.preprocess import Preprocessing
from export.sources.captured import Samples, Values
from wire.manifest import Generate, Loss

TOKENS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
READS = (TOKENS, MASK, POSITIONS)
LOGITS = "logits"


def check_causal(graph: ir.Graph, source: str) -> None:
    """Whether a graph takes whole texts and gives logits.

    Raises:
        UnsupportedModel: it reads or gives something else.
    """
    inputs, outputs = ([str(value.name) for value in values] for values in (graph.inputs, graph.outputs))
    if TOKENS not in inputs or MASK not in inputs or set(inputs) - set(READS) or outputs != [LOGITS]:
        raise UnsupportedModel(
            f"expected a decoder that reads {', '.join(READS)} and gives {LOGITS}, found one that reads "
            f"{', '.join(inputs)} and gives {', '.join(outputs)} in {source}; choose another model, or --mode serve"
        )


def causal_record(graph: ir.Graph, sequence: int, rules: dict[str, object]) -> Generate:
    """How it generates: all tokens so far in every run. A prompt says how an answer begins, so `start` is empty."""
    names = {str(value.name) for value in graph.inputs}
    positions = POSITIONS if POSITIONS in names else None
    return Generate("prefix", TOKENS, LOGITS, sequence, MASK, positions, **{**rules, "start": ()})  # type: ignore[arg-type]  # the fields of Generate


def next_token() -> Loss:
    """The loss: cross entropy of every token's logits with the token that follows."""
    return Loss("next-token", LOGITS)


def _positions(mask: NDArray[np.int64]) -> NDArray[np.int64]:
    """The how-manieth token each is, from 0: int64 [batch, sequence]."""
    places: NDArray[np.int64] = np.maximum(mask.cumsum(axis=1) - 1, 0).astype(np.int64)
    return places


def causal_samples(graph: ir.Graph, preprocess: Preprocessing, vocabulary: int) -> Samples:
    """One run: sentences, or tokens drawn from a seed, filled up on the right."""
    names = {str(value.name) for value in graph.inputs}

    def samples(batch: int, sequence: int | None, seed: int | None) -> list[Values]:
        length = int(sequence or preprocess.parameters["max_length"])
        if seed is None:
            values = feeds.real_text(batch, length, preprocess)
        else:
            values = feeds.seeded_text(batch, length, vocabulary, seed)
        values[POSITIONS] = _positions(values[MASK])
        return [{name: value for name, value in values.items() if name in names}]

    return samples
