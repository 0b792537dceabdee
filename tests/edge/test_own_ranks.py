"""A board whose plan gives each slot a rank of its own trains that much of each, and nothing of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData
from edge.train import TrainSettings, train
from tests.edge.test_gradients import random_adapter, rows, runner
from tests.wire.samples import manifest
from wire.inputs import at_ranks
from wire.manifest import Plan, parse_manifest, to_bytes

PLAN = Plan("board", "train", "fp32", 3, 1, (), 1, 1)


def test_each_slot_has_its_rank(tmp_path: Path) -> None:
    """A prefix of each that is named, nothing of the others; nothing changes where no slot has a rank of its own."""
    adapter = random_adapter(runner(tmp_path, segments=(1, 1, 1)).manifest, rank=3)
    names = list(adapter.lora)
    found = at_ranks(replace(PLAN, ranks={names[0]: 1, names[2]: 9}), adapter)
    assert {name: w.rank for name, w in found.lora.items()} == {names[0]: 1, names[2]: 3}
    np.testing.assert_array_equal(found.lora[names[0]].a, adapter.lora[names[0]].a[:, :1])
    assert at_ranks(PLAN, adapter) is adapter
    even = at_ranks(replace(PLAN, ranks={names[0]: 1, names[2]: 2}), adapter, own=False)
    assert {name: w.rank for name, w in even.lora.items()} == {names[0]: 3, names[2]: 3}


def test_what_is_learned_has_these_ranks(tmp_path: Path) -> None:
    """Training moves the directions that the plan has room for; what comes back is of the same slots and ranks."""
    run = runner(tmp_path, segments=(1, 1))
    adapter = random_adapter(run.manifest, rank=3)
    first, second = adapter.lora
    start = at_ranks(replace(PLAN, ranks={first: 2}), adapter)
    done = train(run, start, rows(6), TrainSettings(steps=2, batch=4, learning_rate=1e-2))
    assert {name: w.rank for name, w in done.adapter.lora.items()} == {first: 2}
    assert np.abs(done.adapter.lora[first].b - adapter.lora[first].b[:2]).max() > 1e-3
    assert second not in done.adapter.lora


def test_ranks_of_slots_that_are_not_there_are_refused() -> None:
    """A manifest names every such slot, and every rank that is none of the board."""
    made = manifest({"segment0.forward.onnx": b"g", "segment0.weights.bin": b"w", "golden.safetensors": b"g"})
    made = replace(made, plan=replace(made.plan, ranks={"nowhere": 1, made.slots[0].name: made.plan.rank + 1}))
    with pytest.raises(BadData, match="rank for unknown slot 'nowhere'.*expected 1 to"):
        parse_manifest(to_bytes(made), "a manifest")
