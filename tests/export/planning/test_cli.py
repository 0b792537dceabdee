"""`edgequilt plan`: from a model and a fleet file to a plan that reads again, and refusals before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.errors import BadData, DoesNotFit, EdgequiltError, UsageError
from devices.split.fleet_plan import read_fleet_plan
from export.cli import export
from export.cli_plan import plan
from tests.export.sampled import sampled
from wire.importance.file import read_importance

FLEET = """
[[device]]
name = "gate"
budget = "66MiB"
flops_per_s = 1_000_000_000
bytes_per_s = 1_000_000_000
link_bytes_per_s = 10_000_000

[[device]]
name = "barn"
profile = "raspberry-pi-4-2gb"

[[device]]
name = "server"
profile = "server"
"""
KIND = ("--task", "feature-extraction", "--quant", "int8", "--sequence", "16", "--micro-batches", "2")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small board, a larger one, and a server."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.toml"
    path.write_text(FLEET)
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight rows of two classes."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    texts = [("the cat sat", "cat"), ("a tree grows", "tree")] * 4
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    return path


def test_a_plan_is_written_and_reads_again(
    bert_folder: Path, fleet: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is on disk is what is printed, by importance of the rows; and a plan stays while importance does."""
    out, html, scores = tmp_path / "plan.json", tmp_path / "plan.html", tmp_path / "scores.json"
    words = [str(bert_folder), *KIND, "--data", str(rows), "--fleet", str(fleet), "--out", str(out)]
    assert plan([*words, "--html", str(html), "--write-importance", str(scores), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    made = read_fleet_plan(out)
    assert json.loads(out.read_text()) == printed
    assert [board.device for board in made.boards] == ["gate", "barn"]
    assert all(board.memory_bytes <= board.budget_bytes for board in made.boards)
    assert made.importance.keys() == read_importance(scores).slots.keys()
    assert made.importance_from == "hsplitlora, measured on 8 rows of rows.jsonl"
    assert made.model.classes == 2
    assert made.model.targets == "every-block"
    assert html.read_text().startswith("<!doctype html>")
    assert "gate" in html.read_text()
    again = [str(bert_folder), *KIND, "--data", str(rows), "--fleet", str(fleet), "--since", str(out)]
    assert plan([*again, "--importance", str(scores)]) == 0
    assert "plan.json stays: 0.0 % of the importance moved" in capsys.readouterr().out


def test_a_model_without_a_gradient_is_planned_and_exported(fleet: Path, tmp_path: Path) -> None:
    """Boards learn what no gradient goes through by forward passes, and the plan that says so makes bundles."""
    out, labels, source = tmp_path / "plan.json", tmp_path / "labels.txt", str(sampled(tmp_path / "net.onnx"))
    labels.write_text("a\nb\n")
    assert plan([source, "--labels", str(labels), "--fleet", str(fleet), "--out", str(out)]) == 0
    assert {board.trainer for board in read_fleet_plan(out).boards} == {"spry"}

    bundles = tmp_path / "bundles"
    assert export([source, "--labels", str(labels), "--plan", str(out), "--out", str(bundles)]) == 0
    modes = [json.loads((bundles / n / "manifest.json").read_text())["plan"]["mode"] for n in ("gate", "barn")]
    assert modes == ["train-forward"] * 2


def test_a_fleet_that_is_too_small_is_refused(bert_folder: Path, rows: Path, tmp_path: Path) -> None:
    """Nothing is written, and the words name the board, its need, and one that would do."""
    out = tmp_path / "plan.json"
    words = [str(bert_folder), *KIND, "--data", str(rows), "--budget", "tiny=60MiB", "--device", "tiny"]
    with pytest.raises(DoesNotFit, match=r"tiny has 60\.0 MiB and needs .* would do in its place"):
        plan([*words, "--out", str(out)])
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--across", "a,b"], "found --across"),
        (["--deadline", "3s"], "--deadline and --items beside --equal-times"),
        (["--write-importance", "x.json"], "--write-importance beside --data"),
        (["--out", "/nowhere/plan.json"], "expected a folder for /nowhere/plan.json"),
        (["--formats", "int8,magic"], "expected formats of"),
        (["--steps", "0"], "expected a whole number of 1"),
        (["--moved", "2"], "expected a share of 0 to 1"),
        (["--mode", "serve"], "gate: expected mode train or train-forward, found serve"),
        (["--tail", "gate", "--device", "gate"], "expected mode train"),
        (["--since", "none.json"], "expected a plan at none.json"),
        (["--task", "text-generation", "--trainer", "local"], "a model with a head for --trainer local"),
        (["--task", "text-generation", "--labels-stay"], "a model with a head for --labels-stay"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_read(more: list[str], words: str, fleet: Path) -> None:
    """Options that do not go together are a sentence, whether or not there is such a model."""
    if more[0] == "--tail":
        more = ["--tail", "server", "--budget", "server=1GiB", "--mode", "train-forward"]
    with pytest.raises(EdgequiltError, match=words):
        plan(["/no/such/model", "--fleet", str(fleet), *more])


def test_no_boards_is_a_sentence(tmp_path: Path) -> None:
    """A command without boards, and a fleet file with chains, say what to give."""
    with pytest.raises(UsageError, match="expected boards as --fleet FILE.toml or --device NAME, found none"):
        plan(["model"])
    chained = tmp_path / "chain.toml"
    chained.write_text(FLEET + '\n[[chain]]\nname = "yard"\ndevices = ["gate", "barn"]\n')
    with pytest.raises(UsageError, match="expected devices alone in .*, found chain yard"):
        plan(["model", "--fleet", str(chained)])
    broken = tmp_path / "scores.json"
    broken.write_text("{}")
    with pytest.raises(BadData, match="expected edgequilt-importance"):
        plan(["model", "--device", "raspberry-pi-4-2gb", "--importance", str(broken)])
