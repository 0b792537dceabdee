"""The memory model against numbers measured once, and its arithmetic by hand."""

from __future__ import annotations

import pytest

from devices.memory import MIB, WORKER_BASE_BYTES, Need, adapter_bytes, stored_bytes

# MiniLM, onnxruntime 1.31.1, x86-64, peak anonymous memory of a fresh process above the imports' 21 MiB
MEASURED = {
    # live bytes of a graph by hand, and what was measured, both in MiB
    "fp32, 8 x 64": (62, 79),
    "int8, 4 x 64": (31, 48),
    "int8, 2 x 64": (17, 31),
    "int8, 1 x 64": (9, 22),
    "fp32, 4 x 128": (71, 89),
    "fp32 forward, 8 x 64": (8, 22),
}


@pytest.mark.parametrize("case", MEASURED)
def test_the_model_meets_measured_peaks(case: str) -> None:
    """Live bytes plus the model's constants come within 4 MiB of what a process really took."""
    live, measured = MEASURED[case]
    predicted = Need(weights=0, live=live * MIB).total - WORKER_BASE_BYTES
    assert abs(predicted - measured * MIB) <= 4 * MIB


def test_every_part_is_counted_once() -> None:
    """The peak grows by exactly what each part grows by."""
    empty = Need(0, 0).total
    assert Need(1, 20, 300, 4000).total - empty == 4321


@pytest.mark.parametrize(("mode", "copies"), [("train", 4), ("train-forward", 4), ("serve", 1)])
def test_adapters_by_mode(mode: str, copies: int) -> None:
    """Training keeps values, gradient and two moments; serving keeps the values."""
    values = 12 * (384 + 384) * 8
    assert adapter_bytes(12 * (384 + 384), 8, mode) == values * 4 * copies


def test_waiting_boundaries_matter_to_training_only() -> None:
    """A served request needs nothing of earlier segments; a backward pass needs all their inputs."""
    assert stored_bytes("serve", 100, 10, 1) == 11
    assert stored_bytes("train", 100, 10, 1) == 111
