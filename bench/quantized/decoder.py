"""A small GPT-2 that is trained on the texts for some minutes, judged by perplexity and its next tokens."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.quantized.case import Case, Run
from bench.quantized.texts import Texts
from export.sources.optimum_graph import raw_graph

VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 4096, 512, 8, 8, 128
BATCH, LENGTH, RATE = 8, 64, 1e-3
WINDOWS = 16  # of 128 tokens, to judge by
LOG = logging.getLogger("bench")
SLACK, SAME = 1.01, 0.01  # of perplexity, as a factor; of agreement
END = 0


@dataclass
class Decoder(Case):
    """Next tokens of texts that it was not trained on."""

    windows: list[NDArray[np.int64]] = field(default_factory=list)
    reference: list[NDArray[np.int64]] = field(default_factory=list)

    judged_rows: ClassVar[int] = CONTEXT
    measures: ClassVar[tuple[str, ...]] = ("perplexity", "agreement")

    def module(self, folder: Path) -> Any:
        """The torch model."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu").eval()

        def call(**given: Any) -> Any:
            with torch.inference_mode():
                return model(**given, use_cache=False).logits

        return call

    def judge(self, run: Run) -> dict[str, float]:
        """Perplexity, and how often the most likely token is that of float32."""
        losses, same = [], []
        for window, expected in zip(self.windows, self.reference, strict=True):
            logits = run(self.with_mask(window))[0].astype(np.float64)
            losses.append(_losses(logits, window[0]))
            same.append(logits.argmax(axis=1) == expected)
        perplexity = float(np.exp(np.mean(losses)))
        return {"perplexity": perplexity, "agreement": float(np.mean(same))}

    def as_good(self, ours: dict[str, float], theirs: dict[str, float]) -> bool:
        """At most a hundredth more perplexity, and a hundredth of tokens more that change."""
        same = ours["agreement"] >= theirs["agreement"] - SAME
        return same and ours["perplexity"] <= SLACK * theirs["perplexity"]


def make_decoder(texts: Texts, steps: int, work: Path, kept: Path, run_of: Any) -> Decoder:
    """Train it, or take what an earlier run trained on the same texts, and export it.

    Args:
        texts: what is learnt and judged.
        steps: of training, each of 512 tokens.
        work: where the graph goes.
        kept: where trained models are kept.
        run_of: makes a `Run` of an ONNX file.
    """
    key = sha256(json.dumps([texts.train, steps, VOCABULARY, WIDTH, LAYERS]).encode()).hexdigest()[:12]
    folder = kept / f"decoder-{key}"
    if not (folder / "config.json").exists():
        _train(texts, steps, folder)
    graph = work / "decoder.onnx"
    raw_graph(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")), "text-generation", graph)
    case = Decoder("decoder", folder, graph, "logits", VOCABULARY)
    stream = _stream(folder, texts.test)[: WINDOWS * CONTEXT]
    case.windows = list(stream[: len(stream) // CONTEXT * CONTEXT].reshape(-1, 1, CONTEXT))
    run = run_of(graph, case.output)
    case.reference = [run(case.with_mask(window))[0].argmax(axis=1) for window in case.windows]
    return case


def _train(texts: Texts, steps: int, folder: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(texts, folder)
    stream = torch.from_numpy(_stream(folder, texts.train))
    torch.manual_seed(1)
    ends = {"bos_token_id": END, "eos_token_id": END, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **ends))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        begins = torch.randint(len(stream) - LENGTH, (BATCH,))
        ids = torch.stack([stream[begin : begin + LENGTH] for begin in begins])
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            LOG.info("decoder: step %d of %d, loss %.2f", step, steps, loss.item())
    model.save_pretrained(folder)


def _write_tokenizer(texts: Texts, folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer

    tokens = ByteLevelBPETokenizer()
    tokens.train_from_iterator((text for text, _ in texts.train), VOCABULARY, special_tokens=["<end>"])
    tokens.save(str(folder / "tokenizer.json"))


def _stream(folder: Path, pairs: list[tuple[str, int]]) -> NDArray[np.int64]:
    """All texts one after the other, an end between them."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [number for found in tokens.encode_batch([text for text, _ in pairs]) for number in (*found.ids, END)]
    return np.array(ids, np.int64)


def _losses(logits: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[Any]:
    """Of each token but the first, in nats: logits [T, V], ids [T]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(-log_p[np.arange(len(ids) - 1), ids[1:]])
