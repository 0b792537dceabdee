"""Scales of a decoder learn its next token, in forward passes only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.data import Row
from edge.perplexity import Judged
from edge.runner import Runner
from edge.train import TrainSettings
from edge.train import train as job
from edge.training.cli import train
from edge.training.passages import Passage
from edge.training.scales import factors_of
from edge.training.tokens import NextTokens
from tests.export.causal import SEQUENCE, by_torch, drawn_adapter, restored_weights, trainable
from tests.export.decoders import BUILDERS, bundle
from wire.adapter import Adapter, read_adapter
from wire.bundle import Bundle

TEXTS = ("the kettle is on", "open", "the window is open")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, dict[str, Any]]:
    """A tiny Llama: its folder, an int8 bundle of two segments whose scales can be moved, its weights restored."""
    work = tmp_path_factory.mktemp("llama")
    folder = BUILDERS["llama"](work / "llama")
    prepared = trainable(folder, work / "source", "int8", scale_inputs=True)
    found = bundle(prepared, 2, work / "b", "int8", mode="train", batch=2)
    return folder, found, restored_weights(prepared, "int8", work / "again")


@pytest.fixture
def runner(llama: tuple[Path, Bundle, dict[str, Any]]) -> Iterator[Runner]:
    """The bundle, ready to run."""
    made = Runner(llama[1])
    yield made
    made.close()


@pytest.mark.heavy
def test_moved_scales_have_the_loss_of_scaled_weights(
    llama: tuple[Path, Bundle, dict[str, Any]], runner: Runner
) -> None:
    """Factors of rows give the mean loss of a torch model whose restored weights have these rows multiplied."""
    folder, found, restored = llama
    adapter = drawn_adapter(found.manifest)
    factors = factors_of(found.manifest, adapter, ("*mlp*", "lm_head*"))
    task = NextTokens(runner, adapter, [Passage(text) for text in TEXTS], scales=factors)
    drawn = np.random.default_rng(4)
    arrays = {name: drawn.uniform(0.5, 1.5, one.shape).astype(np.float32) for name, one in task.start().items()}
    rows = task.rows(range(len(TEXTS)))
    assert rows.gradients is None
    assert rows.loss is not None

    weights = dict(restored)
    for weight, one in factors.moved.items():
        module = weight.removesuffix(".weight")
        weights[module] = restored[module] * arrays[one.input].reshape(-1, 1)
    losses, count = 0.0, 0
    for ids, mask in zip(task.blocks.ids, task.blocks.mask, strict=True):
        own = ids[mask].astype(np.int64)[None]
        fed = {"input_ids": own, "attention_mask": np.ones_like(own), "position_ids": np.arange(own.size)[None]}
        fed |= {"labels": np.append(own[0, 1:], -100), "weights": np.ones(own.size)}
        losses, count = losses + by_torch(folder, found.manifest, adapter, fed, weights)[0], count + own.size - 1
    assert rows.loss(arrays) == pytest.approx(losses / count, rel=1e-5)
    assert rows.loss(task.start()) != pytest.approx(losses / count, rel=1e-3)


@pytest.mark.heavy
def test_the_command_trains_scales_of_a_decoder(llama: tuple[Path, Bundle, dict[str, Any]], tmp_path: Path) -> None:
    """`--trainer qzo` on lines of text: the loss of the texts falls, and the file moves the scales that it did."""
    found, texts, out = llama[1], tmp_path / "texts.txt", tmp_path / "moved.safetensors"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    line = [str(found.folder), "--data", str(texts), "--out", str(out), "--trainer", "qzo", "--steps", "12"]
    assert train([*line, "--directions", "4", "--rate", "0.1", "--kept-back", "0", "--json"]) == 0

    adapter = read_adapter(out.read_bytes(), "the adapter")
    assert adapter.scales is not None
    assert adapter.rank == 0
    runner = Runner(found)
    passages, bare = [Passage(text) for text in TEXTS], Adapter(found.manifest.model.id)
    before, after = (
        NextTokens(runner, one, passages, passages, scales=factors_of(found.manifest, one)) for one in (bare, adapter)
    )
    scores = [task.score(task.start()) for task in (before, after)]
    runner.close()
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[1].loss < 0.98 * scores[0].loss
    assert before.bucket.sequence == SEQUENCE


@pytest.mark.heavy
def test_a_job_trains_scales_of_a_decoder(llama: tuple[Path, Bundle, dict[str, Any]], runner: Runner) -> None:
    """A job of a round with `qzo` moves them on rows that are texts: their loss falls, and few bytes say it."""
    adapter, rows = Adapter(llama[1].manifest.model.id, "1" * 64), [Row(Passage(text), 0) for text in TEXTS]
    told = TrainSettings(steps=12, trainer="qzo", kinds=("scales",), directions=4, learning_rate=0.1)
    done = job(runner, adapter, rows, told, job="r1-train-barn")
    made = done.adapter.scales
    assert made is not None
    assert made.replay is not None
    first, last = (Judged(runner, rows).score(one, "1" * 64, 0).tokens for one in (adapter, done.adapter))
    assert first is not None
    assert last is not None
    assert last.loss < 0.98 * first.loss
