"""A training run over a cache of what never changes: the same adapter, fewer runs, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from console.errors import UsageError
from edge.training.cli import train
from tests.edge.boards import write_data
from tests.edge.bundles import make_bundle
from tests.edge.training.test_command import COMMAND, arguments, call
from tests.processes import started, until
from wire.adapter import read_adapter


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of texts whose first segment has no slot, and data of eight texts many times over."""
    folder = tmp_path_factory.mktemp("bench")
    make_bundle(folder / "bundle", kind="text", segments=(1, 1), frozen=(0,), biases=True, rank=4)
    write_data(folder / "data.jsonl", 120)
    return folder


@pytest.mark.parametrize("trainer", ["backprop", "spry"])
def test_the_adapter_is_that_of_a_run_without_a_cache(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainer: str
) -> None:
    """Gradients or losses over the cache lead to the same numbers within float16; the report counts, no file stays."""
    more = ("--trainer", trainer, "--steps", "12", "--json")
    train(arguments(bench, tmp_path / "kept", *more))
    said = json.loads(capsys.readouterr().out)["cache"]
    train(arguments(bench, tmp_path / "plain", *more, "--no-cache"))
    assert json.loads(capsys.readouterr().out)["cache"] is None

    kept, plain = (read_adapter((tmp_path / name).read_bytes(), name) for name in ("kept", "plain"))
    for name, lora in plain.lora.items():
        np.testing.assert_allclose(kept.lora[name].b, lora.b, atol=0.02 * np.abs(lora.b).max())
    assert said["rows"] == said["misses"] > 1
    assert said["hits"] > 12
    assert said["said"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "plain"]


def test_a_killed_run_finds_its_rows_and_ends_with_the_same_bytes(bench: Path, tmp_path: Path) -> None:
    """After SIGKILL the same command makes no row that was in again, and ends as a run that was left alone."""
    more = ("--trainer", "backprop", "--steps", "120", "--patience", "0", "--checkpoint-every", "0")
    assert call(bench, tmp_path / "whole", *more).returncode == 0
    with started([*COMMAND, *arguments(bench, tmp_path / "killed", *more)], stderr=subprocess.DEVNULL) as run:
        until((tmp_path / "killed.checkpoint").exists, run)
        run.send_signal(signal.SIGKILL)
    assert (tmp_path / "killed.cache").stat().st_size > 4096

    again = call(bench, tmp_path / "killed", *more, "--json")

    assert again.returncode == 0, again.stderr
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert json.loads(again.stdout)["cache"]["misses"] == 0
    assert not (tmp_path / "killed.cache").exists()


def test_a_disk_that_is_full_for_rows_is_said_once(bench: Path, tmp_path: Path) -> None:
    """No row fits, the run ends well, and its report has one sentence of it."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    found = call(bench, tmp_path / "a", "--trainer", "backprop", "--steps", "4", "--json", code=limit)
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert said["cache"]["rows"] == 0
    assert len([words for words in said["sentences"] if words.startswith("Of the cache: ")]) == 1


def test_a_size_that_is_none_is_refused(bench: Path, tmp_path: Path) -> None:
    """Before anything is opened."""
    with pytest.raises(UsageError, match="expected a size such as 200MiB"):
        train(arguments(bench, tmp_path / "a", "--cache", "much"))
