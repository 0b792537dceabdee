"""`edgequilt devices fits`: the same answer as an export would give, without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from console.errors import DoesNotFit, UsageError
from devices.profile import names
from export.cli import export
from export.cli_fits import fits
from export.report.account import accounts
from wire.bundle import open_bundle

ZERO, FOUR, NANO = "raspberry-pi-zero-2w", "raspberry-pi-4-2gb", "jetson-nano-4gb"
KIND = ("--task", "feature-extraction", "--quant", "int8", "--sequence", "48", "--micro-batches", "64")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes."""
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("cat\nmat\ntree\n")
    return path


@pytest.fixture(scope="module")
def bundles(bert_folder: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an export makes: for a large budget, and for one in which the model is cut."""
    out = tmp_path_factory.mktemp("bundles")
    boards = ("--device", ZERO, "--device", "small", "--budget", "small=86MiB")
    assert export([str(bert_folder), *KIND, "--labels", str(labels), "--out", str(out), *boards]) == 0
    return out


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and rows by board."""
    capsys.readouterr()
    code = fits([*words, "--json"])
    return code, {row["board"]: row for row in json.loads(capsys.readouterr().out)}


@pytest.mark.heavy
def test_it_says_what_an_export_decides(
    bert_folder: Path, labels: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Segments, micro-batch and rank are those in the manifests of bundles that were really made, the peak is near."""
    boards = ("--device", ZERO, "--device", "small", "--budget", "small=86MiB")
    code, found = asked(capsys, str(bert_folder), *KIND, "--labels", str(labels), *boards)
    assert code == 0
    for name in (ZERO, "small"):
        manifest = open_bundle(bundles / name, trust=None).manifest
        plan, row = manifest.plan, found[name]
        assert (row["segments"], row["micro_batch"], row["rank"]) == (
            len(manifest.segments),
            plan.micro_batch,
            plan.rank,
        )
        assert row["needed_bytes"] == pytest.approx(plan.predicted_bytes, rel=0.1)  # an export has the real graphs
    assert found["small"]["segments"] > found[ZERO]["segments"] == 1
    assert found["small"]["least_s"] is None
    assert found[ZERO]["least_s"] > 0


@pytest.mark.heavy
def test_a_bundle_fits_where_its_peak_does(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget of what its bundle took is enough, one byte less is not; the row says what is missing."""
    bundle = bundles / ZERO
    (account,) = accounts([open_bundle(bundle, trust=None)])
    peak = max(account.memory.predicted_bytes, account.memory.measured_bytes or 0)
    code, found = asked(capsys, str(bundle), "--device", "a", "--budget", f"a={peak}")
    assert (code, found["a"]["fits"], found["a"]["needed_bytes"]) == (0, True, peak)
    code, found = asked(capsys, str(bundle), "--device", "a", "--budget", f"a={peak - 1}")
    assert (code, found["a"]["fits"]) == (DoesNotFit.exit_code, False)
    assert "export the model for this board" in found["a"]["why"][0]


@pytest.mark.heavy
def test_without_a_device_all_boards_are_asked(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every board that runs an agent has its row, and none that does not fit makes it a failure."""
    code, found = asked(capsys, str(bundles / ZERO))
    assert code == 0
    assert {ZERO, FOUR} <= set(found) <= set(names())
    assert NANO not in found


def test_boards_that_do_not_do(bert_folder: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A board without an agent and one that is too small are rows with their reasons; the exit code is 12."""
    boards = ("--device", NANO, "--device", ZERO, "--budget", f"{ZERO}=40MiB")
    assert fits([str(bert_folder), *KIND, "--labels", str(labels), *boards]) == DoesNotFit.exit_code
    told = capsys.readouterr().out
    assert f"{NANO}: expected a board that can run an agent" in told
    assert f"{ZERO}: expected {ZERO} to run this model within its budget of 40.0 MiB" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith((f"{NANO} ", f"{ZERO} "))] == ["no", "no"]


def test_a_name_that_nobody_knows(bert_folder: Path) -> None:
    """It is refused with the words of an export."""
    with pytest.raises(UsageError, match="raspberry-pi-zero-2"):
        fits([str(bert_folder), *KIND, "--device", "raspberry-pi-zero-2"])
