"""Decoders: caches of a fixed length as states, and what a board must know to generate.

A run of a `cached` graph takes one token. Its caches hold the last context - 1 tokens, the newest last: what is
not filled yet is on the left and masked, so prompt and answer go through the same graph, token by token. A
`prefix` graph (an encoder-decoder) takes all tokens so far, filled up on the right, where no earlier one looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import UnsupportedModel, UsageError
from export.edit import Edit
from export.quiet import quiet
from export.sources.captured import REAL_SEED, Reference, Samples, StatePair, Values
from export.sources.folder import first_line
from wire.manifest import Generate

CONTEXT = 128
PAST, SEQUENCE = "past_sequence_length", "sequence_length"
END = 2**62  # a Slice to the end
# beside the tokens, what a cached decoder may read
CACHED_READS = ("input_ids", "attention_mask", "position_ids")
LOGITS = "logits"
RUNS = 6  # tokens that verification runs


def context_of(folder: Path, sizes: Mapping[str, int]) -> int:
    """How many tokens prompt and answer may have together: `sizes["context"]`, or 128 where the model can.

    Raises:
        UsageError: the model cannot place as many, or it is below 2.
    """
    longest = positions_of(folder)
    asked = sizes.get("context", CONTEXT if longest is None else min(CONTEXT, longest))
    if asked < 2 or (longest is not None and asked > longest):
        most = "" if longest is None else f" to {longest}"
        raise UsageError(
            f"expected a context of 2{most} tokens for this model, found {asked}; choose another --context"
        )
    return asked


def positions_of(folder: Path) -> int | None:
    """The most tokens that a decoder can place; None where positions are relative.

    Raises:
        UnsupportedModel: transformers cannot read the configuration.
    """
    config = _config(folder).get_text_config(decoder=True)
    for name in ("max_target_positions", "max_position_embeddings", "max_seq_len"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def vocabulary_of(folder: Path) -> int:
    """How many tokens the model knows."""
    return int(_config(folder).get_text_config(decoder=True).vocab_size)


def _config(folder: Path) -> Any:
    try:
        with quiet():
            from transformers import AutoConfig

            return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises half a dozen classes
        raise UnsupportedModel(
            f"expected a config.json that transformers can read in {folder}, found one that it cannot "
            f"({first_line(error)}); fetch the file again"
        ) from error


def fix_caches(graph: ir.Graph) -> tuple[StatePair, ...]:
    """Cut every cache that leaves down to the length of the one that came in, in place: its oldest entry goes.

    Raises:
        UnsupportedModel: an output that is no cache, or a cache without an input.
    """
    pairs = []
    inputs = {str(value.name): value for value in graph.inputs}
    for position, output in enumerate(list(graph.outputs)):
        name = str(output.name)
        if not name.startswith("present"):
            continue
        past = inputs.get(name.replace("present", "past_key_values", 1))
        axis = None if past is None else _past_axis(past)
        if past is None or axis is None:
            raise UnsupportedModel(
                f"expected a cache that comes in and goes out, found {name} only; choose another model"
            )
        edit = Edit(graph, f"state/{position}")
        numbers = [edit.constant(n, [v], np.int64) for n, v in (("start", 1), ("end", END), ("axis", axis))]
        newest = edit.op("Slice", output, *numbers, like=past)
        maker = output.producer()
        # at once: a cache that is cut at the end of the graph would cross every cut until there
        edit.put_last() if maker is None else edit.put_after(maker)
        output.name, newest.name = f"{name}/whole", name
        graph.outputs[position] = newest
        pairs.append(StatePair(str(past.name), name))
    return tuple(pairs)


def _past_axis(value: ir.Value) -> int | None:
    dims = [] if value.shape is None else [d.value if isinstance(d, ir.SymbolicDim) else d for d in value.shape]
    return dims.index(PAST) if PAST in dims else None


def fix_context(graph: ir.Graph, context: int) -> None:
    """Write one token, context - 1 cached ones and a batch of one into the inputs' shapes.

    Raises:
        UnsupportedModel: an input that no decoder known here reads, by name.
    """
    known = {PAST: context - 1, SEQUENCE: 1, f"{PAST} + {SEQUENCE}": context, f"{PAST}+{SEQUENCE}": context}
    unknown = []
    for value in graph.inputs:
        dims = [] if value.shape is None else list(value.shape)
        sizes = [1 if i == 0 else known.get(str(getattr(d, "value", d)), d) for i, d in enumerate(dims)]
        if not all(isinstance(size, int) for size in sizes) or not _is_known(str(value.name)):
            unknown.append(f"{value.name} {value.shape}")
        value.shape = ir.Shape(sizes)
    if unknown:
        raise UnsupportedModel(
            f"expected a decoder that reads {', '.join(CACHED_READS)} and caches, found {', '.join(unknown)}; "
            "choose another model"
        )


def _is_known(name: str) -> bool:
    return name in CACHED_READS or name.startswith("past_key_values")


def cached_record(graph: ir.Graph, context: int, rules: dict[str, Any]) -> Generate:
    """How a cached decoder generates."""
    names = {str(value.name) for value in graph.inputs}
    mask, positions = (name if name in names else None for name in CACHED_READS[1:])
    return Generate("cached", CACHED_READS[0], LOGITS, context, mask, positions, **{**rules, "start": ()})


def cached_samples(graph: ir.Graph, context: int, vocabulary: int) -> Samples:
    """Runs at the beginning of a text, token by token; the caches come from the run before."""
    inputs = {str(v.name): tuple(d for d in v.shape or () if isinstance(d, int)) for v in graph.inputs}
    tokens, mask, positions = CACHED_READS

    def samples(batch: int, sequence: int | None, seed: int | None) -> list[Values]:
        ids = np.random.default_rng(REAL_SEED if seed is None else seed).integers(0, vocabulary, min(RUNS, context))
        runs = []
        for at, token in enumerate(ids):
            run = {
                tokens: np.array([[token]], np.int64),
                mask: (np.arange(context) >= context - 1 - at).astype(np.int64)[None],
                positions: np.array([[at]], np.int64),
            }
            runs.append({name: value for name, value in run.items() if name in inputs})
        return runs

    return samples


def cached_reference(original: Path) -> Reference:
    """What the untouched graph computes with caches that begin empty and grow: the logits of every run."""

    def reference(runs: Sequence[Values]) -> list[Values]:
        session = ort.InferenceSession(str(original), providers=["CPUExecutionProvider"])
        outputs = [value.name for value in session.get_outputs()]
        held = {v.name: _empty(v) for v in session.get_inputs() if v.name.startswith("past")}
        out = []
        for at, run in enumerate(runs):
            fed = {**run, **held}
            if CACHED_READS[1] in fed:
                fed[CACHED_READS[1]] = np.ones((1, at + 1), np.int64)
            values = dict(zip(outputs, session.run(outputs, fed), strict=True))
            held = {name: values[name.replace("past_key_values", "present", 1)] for name in held}
            out.append({LOGITS: values[LOGITS]})
        return out

    return reference


def _empty(value: Any) -> NDArray[Any]:
    """A cache without an entry: what onnxruntime says of the shape, the batch one and the past nothing."""
    return np.zeros([d if isinstance(d, int) else 0 if d == PAST else 1 for d in value.shape], np.float32)


def rules_of(folder: Path) -> dict[str, Any]:
    """What generation_config.json, or else config.json, says of first, last and forbidden tokens."""
    with quiet():
        from transformers import GenerationConfig

        try:
            given = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError):
            given = GenerationConfig.from_model_config(_config(folder))
    start = given.decoder_start_token_id if given.decoder_start_token_id is not None else given.bos_token_id
    pairs = getattr(given, "forced_decoder_ids", None) or []
    forced = {str(at): int(token) for at, token in pairs if token is not None}
    if given.forced_bos_token_id is not None:
        forced["1"] = int(given.forced_bos_token_id)
    return {
        "start": _listed(start),
        "end": _listed(given.eos_token_id),
        "pad": next(iter(_listed(given.pad_token_id)), 0),
        "never": _listed(given.suppress_tokens),
        "never_first": _listed(given.begin_suppress_tokens),
        "forced": forced,
    }


def _listed(tokens: Any) -> tuple[int, ...]:
    """One id, several or none."""
    if tokens is None:
        return ()
    return tuple(int(t) for t in tokens) if isinstance(tokens, (list, tuple)) else (int(tokens),)
