"""Encoders with random weights, exported to be trained in forward passes, and rows for them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np

from edge.data.row import Row
from tests.export.models import SPECIAL, WORDS, write_tokenizer

LABELS = ("cat", "dog", "tree")
OTHERS = ("a", "the", "sat", "ran", "on", "under", "red", "blue", "mat")


def exported(folder: Path, quant: str, width: int, layers: int, sequence: int) -> Path:
    """A BERT of so many blocks, four heads, in a format: the folder of its bundle."""
    import torch
    from transformers import BertConfig, BertModel

    from export.cli import export

    folder.mkdir(parents=True)
    source = folder / "model"
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "max_position_embeddings": sequence}
    vocabulary = len(SPECIAL) + len(WORDS)
    config = BertConfig(vocab_size=vocabulary, num_hidden_layers=layers, num_attention_heads=4, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(source)
    write_tokenizer(source, max_length=sequence)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    line = [str(source), "--task", "text-classification", "--labels", str(folder / "labels.txt"), "--mode"]
    line += ["train-forward", "--quant", quant, "--scale-inputs", "--sequence", str(sequence), "--budget", "1GiB"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        export([*line, "--out", str(folder / "out"), "--json"])
    return folder / "out" / "board"


def rows(count: int, seed: int, words: int = 5) -> list[Row]:
    """Sentences of which one word is the class's, among others."""
    drawn = np.random.default_rng(seed)
    out = []
    for i in range(count):
        own = [*drawn.choice(OTHERS, words - 1), LABELS[i % len(LABELS)]]
        drawn.shuffle(own)
        out.append(Row(" ".join(own), i % len(LABELS)))
    return out
