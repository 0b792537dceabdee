"""Tiny random models that generate, and bundles of them cut where a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devices.plan import Board, Decision
from export.chain import PLAIN
from export.describe import blobs, describe
from export.measure import Peak
from export.prepare import Prepared, Wanted, prepare
from export.stage import Key, Stage, build_stage
from export.stage_checks import verify_stage
from export.write import copy_synced, describe_files, replacing, seal_bundle, write_golden
from tests.export.models import write_tokenizer
from wire.bundle import Bundle, open_bundle
from wire.keys import new_key

VOCABULARY = 97
CONTEXT = 24
END = 2


def tiny_gpt2(folder: Path, *, vocabulary: int = VOCABULARY, tied: bool = True) -> Path:
    """Three blocks 32 wide, learned positions, Conv1D, a tied head."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    config = GPT2Config(vocab_size=vocabulary, **sizes, tie_word_embeddings=tied, **_ends())
    return _save(GPT2LMHeadModel, config, folder, 3.0)


def tiny_llama(folder: Path) -> Path:
    """Three blocks with grouped queries and rotary positions, a head of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _save(LlamaForCausalLM, LlamaConfig(**_rotary(), tie_word_embeddings=False), folder)


def tiny_qwen3(folder: Path) -> Path:
    """The same with normalised queries and keys, and a tied head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return _save(Qwen3ForCausalLM, Qwen3Config(**_rotary(), head_dim=8, tie_word_embeddings=True), folder)


def tiny_t5(folder: Path, *, vocabulary: int = VOCABULARY) -> Path:
    """Two blocks of encoder and decoder each, relative positions."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    ends = {"decoder_start_token_id": 0, "eos_token_id": END, "pad_token_id": 0}
    config = T5Config(vocab_size=vocabulary, tie_word_embeddings=False, **ends, **sizes)
    return _save(T5ForConditionalGeneration, config, folder, 1.0)


BUILDERS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "qwen3": tiny_qwen3, "t5": tiny_t5}


def _ends() -> dict[str, int]:
    return {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}


def _rotary() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        **_ends(),
    }


def _save(cls: Any, config: Any, folder: Path, spread: float = 1.5) -> Path:
    """Draw every parameter; matrices wide enough that an answer does not repeat one token."""
    import torch

    generator = torch.Generator().manual_seed(1)
    model = cls(config)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.add_(0.2 * drawn)
            else:
                parameter.copy_(drawn * spread * parameter.shape[-1] ** -0.5)
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder, max_length=64)
    return folder


def prepared(folder: Path, task: str, work: Path, context: int = CONTEXT, sequence: int | None = None) -> Prepared:
    """A model on its way to a bundle, without slots."""
    wanted = Wanted(str(folder), task, sequence=sequence, targets="", sizes={"context": context})
    return prepare(wanted, ("fp32", "int8"), ("serve",), work)


def spread_cuts(model: Prepared, segments: int, batch: int = 1, mode: str = "serve") -> tuple[int, ...]:
    """Legal cuts at about even distances."""
    positions = model.cost(batch, mode).positions if segments > 1 else ()
    return tuple(positions[len(positions) * k // segments] for k in range(1, segments))


def bundle(
    model: Prepared,
    segments: int,
    out: Path,
    quant: str = "fp32",
    *,
    mode: str = "serve",
    batch: int = 1,
    labels: Sequence[str] = (),
    verified: bool = True,
) -> Bundle:
    """A signed bundle of a chain of some segments. It is not measured, and verified where nobody else does that."""
    key = Key(mode, quant, batch, spread_cuts(model, segments, batch, mode))
    stage = build_stage(model, key, out.parent / f"{out.name}-stage")
    assert len(stage.pieces) == segments
    for path in (path for link in stage.links for _, path, _ in link.graphs()):
        stage.peaks[path.name] = Peak(PLAIN, 0, 0, 0, 0, 0.0)
        stage.predicted[path.name] = {"weights": 0}
    if verified:
        verify_stage(model, stage)
    else:
        write_golden(stage.golden, {}, {"none": np.zeros(1, np.float32)})
    return sealed(model, stage, out, quant, labels)


def sealed(model: Prepared, stage: Stage, out: Path, quant: str, labels: Sequence[str] = ()) -> Bundle:
    """Write a stage as the exporter does."""
    board = Board("tester", 1 << 30, stage.key.mode, quant)
    decision = Decision((), stage.key.micro_batch, 0, tuple(sum(parts.values()) for parts in stage.predicted.values()))
    with replacing(out) as folder:
        names = []
        for path in blobs(model, stage):
            copy_synced(path, folder / path.name)
            names.append(path.name)
        files = describe_files(folder, names)
        seal_bundle(
            folder,
            describe(model, stage, board, decision, name="tiny", labels=labels, files=files, measured_bytes=0),
            new_key("publisher", "t"),
        )
    return open_bundle(out, None)
