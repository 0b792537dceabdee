"""A model that takes three times what a board has, and learns there: the front on the board, the rest elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devices.memory import MIB
from export.cli import export
from export.write import read_golden
from tests.export.models import tiny_bert
from tests.export.test_split import parted
from wire.bundle import Bundle, open_bundle

BUDGET_MIB = 110
STEPS, RATE, RANK = 6, 0.004, 2

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A BERT of 75 million parameters in float32, by the command: the front of a small board, and the tail."""
    folder = tmp_path_factory.mktemp("large")
    source = tiny_bert(folder / "bert", layers=11, hidden=768, inner=3072)
    (folder / "labels.txt").write_text("a\nb\nc\n")
    line = [str(source), "--task", "feature-extraction", "--labels", str(folder / "labels.txt"), "--sequence", "16"]
    line += ["--quant", "fp32", "--micro-batches", "8", "--no-serve-graph", "--split", "gate", "--tail", "hall"]
    line += ["--budget", f"gate={BUDGET_MIB}MiB", "--budget", "hall=2GiB", "--out", str(folder / "out"), "--json"]
    assert export(line) == 0
    return open_bundle(folder / "out" / "gate", None), open_bundle(folder / "out" / "hall", None)


def test_the_front_is_measured_within_the_budget(bundles: tuple[Bundle, Bundle]) -> None:
    """The whole model takes more than three budgets, its weights alone more than two; the front takes less than one."""
    front, tail = bundles
    assert front.manifest.plan.budget_bytes == BUDGET_MIB * MIB
    assert front.manifest.plan.extra["measured_bytes"] <= BUDGET_MIB * MIB
    assert tail.manifest.plan.extra["measured_bytes"] >= 3 * BUDGET_MIB * MIB
    assert sum(f.bytes for f in tail.manifest.files if "weights" in f.path) >= 2 * BUDGET_MIB * MIB
    assert front.manifest.slots


def test_it_learns_there(bundles: tuple[Bundle, Bundle]) -> None:
    """Steps down the gradients of both halves make the loss of some rows smaller, and adapters of both move."""
    front, tail = bundles
    fed, _ = read_golden(tail.path(tail.manifest.golden.file))
    values = {name: value for name, value in fed.items() if not name.startswith(("slot.", "head."))}
    rows, head, generator = front.manifest.plan.micro_batch, tail.manifest.head, np.random.default_rng(7)
    assert head is not None
    values |= {"labels": np.arange(rows) % 3, "weights": np.full(rows, 1 / rows, np.float32)}
    learned: dict[str, Any] = {}
    for slot in tail.manifest.slots:
        a = generator.normal(0, slot.features_in**-0.5, (slot.features_in, RANK))
        learned |= {slot.a: a.astype(np.float32), slot.b: np.zeros((RANK, slot.features_out), np.float32)}
        values[slot.scale] = np.array(1, np.float32)
    drawn = generator.normal(0, head.features**-0.5, (head.features, 3))
    learned |= {head.weight: drawn.astype(np.float32), head.bias: np.zeros(3, np.float32)}
    losses = []
    for _ in range(STEPS):
        found = parted(front, tail, {**values, **learned})
        losses.append(float(found["loss"]))
        learned = {name: value - RATE * found[f"grad.{name}"] for name, value in learned.items()}
    assert losses[-1] < 0.8 * losses[0]
    moved = {slot.name for slot in tail.manifest.slots if learned[slot.b].any()}
    assert moved == {slot.name for slot in tail.manifest.slots}
