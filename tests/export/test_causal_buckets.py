"""Decoders that learn in micro-batches and lengths of several sizes: whatever the bucket, the numbers are torch's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from edge.runner import Runner
from edge.training.cli import train
from edge.training.passages import Passage
from edge.training.tokens import NextTokens
from export.cli import export
from tests.export.causal import by_torch, drawn_adapter, worst
from tests.export.decoders import BUILDERS
from wire.bundle import Bundle, open_bundle

BAR = 1e-5
TEXTS = ["open", "the kettle is on", "why?", "a red bicycle leans against the wall", "open the file"]

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A tiny Llama's folder, and its bundle with micro-batches 4 and 1 of 12 and of 6 tokens."""
    work = tmp_path_factory.mktemp("buckets")
    folder = BUILDERS["llama"](work / "llama")
    line = [str(folder), "--task", "text-generation", "--mode", "train", "--quant", "fp32", "--no-serve-graph"]
    line += ["--adapter-targets", "attn", "--micro-batches", "4,1", "--sequence", "6,12", "--budget", "400MiB"]
    assert export([*line, "--out", str(work / "out"), "--json"]) == 0
    return folder, open_bundle(work / "out" / "board", None)


def filled_up_on(side: str, found: Bundle) -> Bundle:
    """The same for a tokenizer that fills up on a side."""
    preprocess = found.manifest.preprocess
    parameters = {**preprocess.parameters, "padding_side": side}
    return replace(found, manifest=replace(found.manifest, preprocess=replace(preprocess, parameters=parameters)))


def task_of(found: Bundle, micro_batch: int | None) -> NextTokens:
    """All texts, and the first two to judge by."""
    passages = [Passage(text) for text in TEXTS]
    return NextTokens(Runner(found), drawn_adapter(found.manifest), passages, passages[:2], micro_batch=micro_batch)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("micro_batch", [None, 4, 1])
def test_every_micro_batch_has_torchs_gradients(made: tuple[Path, Bundle], micro_batch: int | None, side: str) -> None:
    """Loss and gradients of five texts of unequal length are those of torch text by text; so is what is judged."""
    folder, found = made[0], filled_up_on(side, made[1])
    task = task_of(found, micro_batch)
    assert task.bucket.name == f"b{micro_batch or 4}s12"
    chosen = [3, 1, 0, 4, 2]
    rows, arrays = task.rows(chosen), task.start()
    assert rows.gradients is not None
    assert rows.loss is not None
    (sums,) = rows.gradients(arrays)

    losses, gradients = list[float](), dict[str, Any]((name, 0.0) for name in arrays)
    for row in range(len(TEXTS)):
        own = task.blocks.ids[row, task.blocks.mask[row]].astype(np.int64)[None]
        fed = {"input_ids": own, "attention_mask": np.ones_like(own), "position_ids": np.arange(own.size)[None]}
        fed |= {"labels": np.append(own[0, 1:], -100), "weights": np.ones(own.size)}
        loss, gradient = by_torch(folder, found.manifest, drawn_adapter(found.manifest), fed)
        losses.append(loss)
        gradients = {name: gradients[name] + gradient[name] for name in gradients}
    assert sums.loss == pytest.approx(sum(losses), rel=BAR)
    assert worst({n: sums.by_input[n] for n in arrays}, gradients) < BAR
    assert rows.loss(arrays) == pytest.approx(sum(losses) / task.blocks.targets(chosen), rel=BAR)
    score = task.score(arrays)
    assert score is not None
    assert score.loss == pytest.approx(sum(losses[:2]) / task.blocks.targets([0, 1]), rel=BAR)


def test_the_command_takes_a_micro_batch_of_the_bundle(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    """`--micro-batch 1` trains, and its adapter is that of micro-batch 4; one that the bundle lacks is named."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    line = [str(made[1].folder), "--data", str(texts), "--kept-back", "0", "--steps", "2", "--force", "--json"]
    for micro_batch in ("1", "4"):
        assert train([*line, "--micro-batch", micro_batch, "--out", str(tmp_path / f"{micro_batch}.safetensors")]) == 0
    with pytest.raises(BadData, match=r"a micro-batch of the bundle \(1; 4\), found 3"):
        task_of(made[1], 3)
