"""Encoder-decoders in one graph: all tokens so far go in, filled up on the right, and no cache is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.sources.captured import REAL_SEED, Reference, Samples, Values
from export.verify import original_runs
from wire.manifest import Generate

TOKENS, LOGITS = "decoder_input_ids", "logits"


def fix_prefix(model: ir.Model, context: int) -> None:
    """One answer at a time: batch 1, `context` tokens of answer; the source's length stays `sequence`, in place.

    Raises:
        UnsupportedModel: the graph is no encoder-decoder.
    """
    graph = model.graph
    if TOKENS not in {v.name for v in graph.inputs} or LOGITS not in {v.name for v in graph.outputs}:
        found = ", ".join(str(v.name) for v in graph.inputs)
        raise UnsupportedModel(f"expected an encoder-decoder that reads {TOKENS}, found one that reads {found}")
    for value in graph.inputs:
        dims = [] if value.shape is None else list(value.shape)
        value.shape = ir.Shape([1, *(context if value.name == TOKENS else d for d in dims[1:])])
    keep = [value for value in graph.outputs if value.name == LOGITS]
    graph.outputs[:] = keep


def prefix_record(context: int, rules: dict[str, Any]) -> Generate:
    """How an encoder-decoder generates.

    Raises:
        UnsupportedModel: nothing says what its answers begin with.
    """
    if not rules["start"]:
        raise UnsupportedModel(
            "expected decoder_start_token_id in generation_config.json or config.json, found none; add it"
        )
    return Generate("prefix", TOKENS, LOGITS, context, **rules)


def prefix_samples(graph: ir.Graph, context: int, vocabulary: int) -> Samples:
    """A source and an answer: a full one each where a seed is given, else half of it."""
    inputs = {str(v.name): (v.dtype, list(v.shape or ())) for v in graph.inputs}

    def samples(batch: int, sequence: int | None, seed: int | None) -> list[Values]:
        rng = np.random.default_rng(REAL_SEED if seed is None else seed)
        values: Values = {}
        for name, (dtype, dims) in inputs.items():
            shape = tuple(d if isinstance(d, int) else int(sequence or 1) for d in dims)
            if name == "attention_mask":
                filled = shape[1] if seed is not None else max(1, shape[1] // 2)
                values[name] = (np.arange(shape[1]) < filled).astype(np.int64)[None]
            elif dtype == ir.DataType.INT64:
                values[name] = rng.integers(0, vocabulary, shape)
            else:
                values[name] = rng.standard_normal(shape).astype(np.float32)
        return [values]

    return samples


def prefix_reference(original: Path) -> Reference:
    """What the untouched graph computes: its logits."""

    def reference(runs: Sequence[Values]) -> list[Values]:
        return [{LOGITS: values[LOGITS]} for values in original_runs(original, list(runs), [], {})]

    return reference
