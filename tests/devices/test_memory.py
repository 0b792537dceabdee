"""The memory model's arithmetic by hand, and its constants against what a process on this machine takes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from devices.malloc import MALLOC
from devices.memory import CONSTANTS, IMPORTS, MIB, Need, adapter_bytes, base_bytes, session_bytes, stored_bytes

PEAK = "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"


def test_every_part_is_counted_once() -> None:
    """The peak grows by exactly what each part grows by, live bytes by what allocators hold above them."""
    empty = Need(0, 0).total
    assert Need(1, 0, 300, 4000).total - empty == 4301
    assert Need(0, 200).total - empty > 200


@pytest.mark.parametrize(("mode", "copies"), [("train", 4), ("train-forward", 4), ("serve", 1)])
def test_adapters_by_mode(mode: str, copies: int) -> None:
    """Training keeps values, gradient and two moments; serving keeps the values."""
    values = 12 * (384 + 384) * 8
    assert adapter_bytes(12 * (384 + 384), 8, mode) == values * 4 * copies


def test_waiting_boundaries_matter_to_training_only() -> None:
    """A served request needs nothing of earlier segments; a backward pass needs all their inputs."""
    assert stored_bytes("serve", 100, 10, 1) == 11
    assert stored_bytes("train", 100, 10, 1) == 111


def test_a_session_grows_with_its_graph() -> None:
    """A node and a kind of operator cost what the constants say, each once."""
    one = session_bytes(nodes=1, operators=1, tensors=1)
    assert session_bytes(nodes=11, operators=1, tensors=1) - one == 10 * CONSTANTS.node_bytes.value
    assert session_bytes(nodes=1, operators=4, tensors=1) - one == 3 * CONSTANTS.operator_bytes.value
    assert session_bytes(nodes=1, operators=1, tensors=8) - one == 7 * CONSTANTS.tensor_bytes.value


@pytest.mark.parametrize("kind", IMPORTS)
def test_the_base_is_that_of_a_process(kind: str) -> None:
    """What a worker imports takes what the constants say, within 4 MiB, with the versions that they name.

    Libraries that were just installed lie in large pages of the page cache, which count whole: 15 MiB more were seen.
    They are the kernel's to drop, so no plan counts them.
    """
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("PIL")
    program = f"import argparse, json, threading, {', '.join(IMPORTS[kind])}; {PEAK}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **MALLOC},
        capture_output=True,
        text=True,
        check=True,
    )
    over = 1024 * int(done.stdout) - base_bytes(kind)
    assert over < 20 * MIB
    here = {"python": platform.python_version(), "onnxruntime": runtime.__version__}
    if here.items() <= CONSTANTS.versions.items():
        assert over > -4 * MIB
