"""Decoders that learn beside torch with PEFT: gradients and steps of both are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.runner import Runner
from edge.trainers.backprop import Backprop
from edge.training.passages import Passage
from edge.training.tokens import NextTokens
from tests.export.causal import drawn_adapter, trainable
from tests.export.decoders import BUILDERS, bundle
from wire.adamw import Hyperparameters
from wire.adapter import Adapter
from wire.manifest import Manifest
from wire.optimizers import Adam32

RATE, STEPS, BAR = 1e-2, 3, 1e-5
TEXTS = ["the kettle is on", "open", "a red bicycle leans against the wall"]


def by_peft(folder: Path, manifest: Manifest, adapter: Adapter, task: NextTokens) -> tuple[list[float], dict[str, Any]]:
    """Losses of some steps of torch's AdamW in float64 on the rows of a task, and the factors after them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    slots = manifest.slots_of("lora")
    lora = adapter.lora[slots[0].name]
    asked = LoraConfig(r=lora.rank, lora_alpha=lora.scale * lora.rank, target_modules=[s.module for s in slots])
    base: Any = AutoModelForCausalLM.from_pretrained(folder).double()
    model = get_peft_model(base, asked).double().eval()
    own, learning = dict(model.named_parameters()), {}
    with torch.no_grad():
        for slot in slots:
            for part, name in (("a", slot.a), ("b", slot.b)):
                learning[name] = own[f"base_model.model.{slot.module}.lora_{part.upper()}.default.weight"]
                learning[name].copy_(torch.tensor(getattr(adapter.lora[slot.name], part).T))
    optimizer = torch.optim.AdamW(learning.values(), lr=RATE, weight_decay=0.0)
    ids, mask = torch.tensor(task.blocks.ids.astype(np.int64)), torch.tensor(task.blocks.mask.astype(np.int64))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100), use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: value.detach().numpy().T for name, value in learning.items()}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_steps_of_a_decoder_are_those_of_peft(name: str, tmp_path: Path) -> None:
    """Over three steps of AdamW on texts of unequal length, in micro-batches of two, losses and factors agree."""
    folder = BUILDERS[name](tmp_path / name)
    prepared = trainable(folder, tmp_path / "source", kinds=("lora",))
    found = bundle(prepared, 2, tmp_path / "bundle", mode="train", batch=2)
    adapter = drawn_adapter(found.manifest)
    task = NextTokens(Runner(found), adapter, [Passage(text) for text in TEXTS])
    trainer, arrays = Backprop(tuple(task.start()), Adam32(Hyperparameters(RATE))), task.start()
    state, losses = trainer.begin(arrays), []
    for _ in range(STEPS):
        stepped = trainer.step(arrays, state, task.rows(range(len(task))))
        arrays, state = stepped.arrays, stepped.state
        losses.append(float(stepped.loss or 0))

    expected, factors = by_peft(folder, found.manifest, adapter, task)

    assert losses == pytest.approx(expected, rel=BAR)
    assert losses[-1] < losses[0]
    assert arrays.keys() == factors.keys()
    for slot, array in arrays.items():
        np.testing.assert_allclose(array, factors[slot], rtol=0, atol=BAR, err_msg=slot)
