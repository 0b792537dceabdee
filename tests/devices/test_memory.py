"""The memory model against numbers measured once, and its arithmetic by hand."""

from __future__ import annotations

import pytest

from devices.memory import MIB, WORKER_BASE_BYTES, Need, adapter_bytes, stored_bytes

# MiniLM int8, onnxruntime 1.31.1 on x86-64, plain options: weight file, live bytes by hand from the graph, and
# what a fresh process grew by from its imports to the peak of three runs; all in MiB
MEASURED = {
    "backward, 8 x 32": (22.0, 25.1, 62.1),
    "backward, 2 x 64": (22.0, 16.2, 50.7),
    "backward, 8 x 64": (22.0, 49.7, 89.8),
    "backward, 4 x 128": (22.0, 55.7, 91.1),
    "forward, 8 x 32": (22.0, 11.9, 44.6),
    "forward, 8 x 64": (22.0, 22.5, 55.7),
    "forward, 4 x 128": (22.0, 25.6, 58.4),
}


@pytest.mark.parametrize("case", MEASURED)
def test_the_model_meets_measured_peaks(case: str) -> None:
    """The prediction is within the larger of 10 % and 4 MiB of what a process really grew by."""
    weights, live, measured = MEASURED[case]
    predicted = Need(int(weights * MIB), int(live * MIB)).total - WORKER_BASE_BYTES
    assert abs(predicted / MIB - measured) <= max(0.1 * measured, 4)


def test_every_part_is_counted_once() -> None:
    """The peak grows by exactly what each part grows by, live bytes by 12 % more."""
    empty = Need(0, 0).total
    assert Need(1, 20, 300, 4000).total - empty == 4321 + 2


@pytest.mark.parametrize(("mode", "copies"), [("train", 4), ("train-forward", 4), ("serve", 1)])
def test_adapters_by_mode(mode: str, copies: int) -> None:
    """Training keeps values, gradient and two moments; serving keeps the values."""
    values = 12 * (384 + 384) * 8
    assert adapter_bytes(12 * (384 + 384), 8, mode) == values * 4 * copies


def test_waiting_boundaries_matter_to_training_only() -> None:
    """A served request needs nothing of earlier segments; a backward pass needs all their inputs."""
    assert stored_bytes("serve", 100, 10, 1) == 11
    assert stored_bytes("train", 100, 10, 1) == 111
