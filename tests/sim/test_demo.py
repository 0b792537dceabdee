"""`edgequilt demo` as a user runs it: the command in a process of its own, the real models, the real fleet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from console.errors import SignatureError
from edge.model import Model, load
from edge.outbox import read_receipts
from hub.making.versions import read_heads, read_ladder, read_made
from hub.store import registry
from sim.minilm import model_folder
from sim.recipes import BOARDS, CAMERAS, TEXT
from tests.conftest import ROOT
from tests.export.models import WORDS, tiny_bert
from tests.sim.browser import Page
from tests.sim.watch import descendants, is_gone, mentioning
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.keys import new_key, read_public_key

pytestmark = pytest.mark.demo
LIMIT_S = 900.0
END_S = 15.0  # from Ctrl-C to the end
RECIPES = {"cameras": CAMERAS, "text": TEXT}
RANKS = {"raspberry-pi-zero-2w": 2, "raspberry-pi-4-2gb": 8, "jetson-orin-nano-8gb": 16}
INVARIANTS = [
    "nothing receipted is lost or counted twice",
    "no worker above its board's budget",
    "the aggregate equals a float64 oracle within its stated tail",
    "the summed head equals the pooled head to 1e-9",
    "all signatures checked",
]


@dataclass
class Run:
    """A demo that has ended."""

    scenario: str
    out: Path
    code: int
    printed: str
    complaints: str

    @property
    def result(self) -> dict[str, Any]:
        """What it printed."""
        found: dict[str, Any] = json.loads(self.printed)
        return found


def command(out: Path, *arguments: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "edgequilt", "demo", "--json", "--out", str(out), *map(str, arguments)]


def demo(out: Path, scenario: str, *arguments: object) -> Run:
    """Run a demo to its end."""
    line = command(out, "--scenario", scenario, *arguments)
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    return Run(scenario, out, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The vision model and its three cameras."""
    return demo(tmp_path_factory.mktemp("cameras") / "out", "cameras")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The language model and the sentences of the standard library."""
    return demo(tmp_path_factory.mktemp("text") / "out", "text")


@pytest.fixture(params=["cameras", "text"])
def finished(request: pytest.FixtureRequest) -> Run:
    """Each scenario in turn; run once for all tests."""
    found: Run = request.getfixturevalue(request.param)
    return found


# ------------------------------------------------------------------------------- both scenarios


def test_everything_holds(finished: Run) -> None:
    """Exit code 0, one JSON document and no other word; every invariant and everything about learning held."""
    assert (finished.code, finished.complaints) == (0, "")
    result = finished.result
    assert [check["words"] for check in result["invariants"]] == INVARIANTS
    assert len(result["learning"]) == 2
    checks = result["invariants"] + result["learning"]
    assert [check for check in checks if check["held"] is not True] == []


def test_the_figures_fit_together(finished: Run) -> None:
    """Three boards of unlike rank within their budgets; every number that the tables need is there and possible."""
    result, recipe = finished.result, RECIPES[finished.scenario]
    boards = {board["name"]: board for board in result["boards"]}
    assert {name: board["rank"] for name, board in boards.items()} == RANKS
    for board in boards.values():
        assert 0 < board["peak_bytes"] <= board["budget_bytes"]
        assert min(board[k] for k in ("seconds_per_step", "bytes_up", "bytes_down", "segments")) > 0
        assert 0 < board["alone"] < 1
    assert [boards[name]["rows"] for name in BOARDS] == list(recipe.train_rows)
    assert result["test_rows"] == recipe.test_rows == len(rows_of(finished, "test"))
    assert sorted(map(int, result["joint"])) == [2, 8, 16]
    assert len(result["by_round"]) == recipe.rounds + 2
    assert result["by_round"][0] == ["head", result["head_only"]]
    assert "released" in result["gate"]
    assert max(result["joint"].values()) <= 1


def test_the_files_are_there(finished: Run) -> None:
    """result.json is what was printed; the report, the bundles and the adapter are complete."""
    out = finished.out
    assert json.loads((out / "result.json").read_text()) == finished.result
    page = Page((out / "report.html").read_text())
    assert (page.wrong, page.open) == ([], [])
    assert page.seen.count("img") == (12 if finished.scenario == "cameras" else 0)
    assert ("class", "bad") not in page.attributes
    for words in (*RANKS, *INVARIANTS, finished.result["gate"]):
        assert words in page.text
    assert {path.name for path in (out / "bundles").iterdir()} == {*RANKS, "server"}
    assert {path.name for path in (out / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "labels.json"
    }  # fmt: skip


@pytest.mark.parametrize("board", [*RANKS, "server"])
def test_bundles_open_with_the_publishers_key(finished: Run, board: str) -> None:
    """Each bundle is whole and signed by the publisher, and a stranger's key does not open it."""
    folder = finished.out / "bundles" / board
    publisher = read_public_key(finished.out / "keys" / "publisher.pub", "publisher")
    plan = open_bundle(folder, Trust([publisher])).manifest.plan
    assert (plan.device, plan.mode, plan.rank) == (
        board,
        *(("train", RANKS[board]) if board in RANKS else ("serve", 16)),
    )
    assert plan.predicted_bytes <= plan.budget_bytes
    with pytest.raises(SignatureError):
        open_bundle(folder, Trust([new_key("publisher", "stranger").public]))


def test_no_process_is_left(finished: Run) -> None:
    """Hub, broker, agents and workers ended with the run."""
    assert mentioning(str(finished.out)) == {}


# ------------------------------------------------------------------------------------ what differs


def rows_of(run: Run, who: str) -> list[dict[str, str]]:
    """The rows of a board, or of the test set."""
    name = f"{who}.jsonl" if run.scenario == "text" else f"{who}/data.jsonl"
    return [json.loads(line) for line in (run.out / "data" / name).read_text().splitlines()]


def test_boards_hold_different_classes_of_text(text: Run) -> None:
    """No class is on two boards, no test row on any; the joint model knows what no board alone could."""
    held = [{row["label"] for row in rows_of(text, board)} for board in BOARDS]
    assert sum(map(len, held)) == len(set.union(*held)) == 9
    assert set.union(*held) == {row["label"] for row in rows_of(text, "test")}
    trained = {row["text"] for board in BOARDS for row in rows_of(text, board)}
    assert trained.isdisjoint(row["text"] for row in rows_of(text, "test"))
    assert max(board["alone"] for board in text.result["boards"]) < 0.4 < text.result["joint"]["16"]


def test_the_report_is_honest_about_text(text: Run) -> None:
    """Where adapters add little to a head that is already good, the report says so."""
    words = Page((text.out / "report.html").read_text()).text
    result = text.result
    width = 1.96 * (result["head_only"] * (1 - result["head_only"]) / result["test_rows"]) ** 0.5
    assert ("adapters add little" in words) == (abs(result["joint"]["16"] - result["head_only"]) <= width)


def test_adapters_matter_to_cameras(cameras: Run) -> None:
    """The model as it came is lost behind unlike cameras; joint is above it and above the head alone."""
    result = cameras.result
    joint = result["joint"]["16"]
    assert result["unadapted"] + 0.10 <= joint
    assert result["head_only"] < joint <= result["centralised"] + 0.10
    assert result["by_round"][-1][1] > result["by_round"][0][1]


# --------------------------------------------------------------------------------------------- PEFT


def deployed(run: Run) -> Model:
    """The bundle of the board of rank 16, with what the hub has released."""
    model = load(run.out / "bundles" / "jetson-orin-nano-8gb", run.out / "keys" / "publisher.pub")
    home = registry.open_home(run.out / "fleet" / "hub")
    with closing(home.ledger):
        version = read_made(home.ledger.versions()[run.result["released"]]).version
        ladder, heads = read_ladder(version, home.blobs, 16), read_heads(version, home.blobs)
    model.apply(Adapter(version.model, lora=ladder, heads=heads))
    return model


def features_of(model: Any, folder: Path, texts: list[str], tokens: int) -> NDArray[np.float64]:
    """Tokens pooled over the mask and brought to length sqrt(D), by torch and transformers, in batches."""
    import torch
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    with torch.no_grad():
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32], padding="max_length", truncation=True, max_length=tokens, return_tensors="pt"
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            found.append(torch.nn.functional.normalize(pooled, dim=1) * hidden.shape[-1] ** 0.5)
    return np.asarray(torch.cat(found).double().numpy())


def test_peft_loads_the_adapter_into_the_original_model(text: Run) -> None:
    """In the original fp32 model PEFT agrees with the quantized bundle on at least 98 % of the test set.

    The adapter is what makes them agree: without it the original model does not.
    """
    from peft import PeftModel
    from transformers import AutoModel

    folder, tokens = model_folder(), RECIPES["text"].sequence or 0
    sentences = [row["text"] for row in rows_of(text, "test")]
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), str(text.out / "adapter")).eval()
    assert adapted.peft_config["default"].r == 16
    head = load_file(text.out / "adapter" / "head.safetensors")
    labels = json.loads((text.out / "adapter" / "labels.json").read_text())

    def predictions(some: list[str]) -> list[str]:
        logits = features_of(adapted, folder, some, tokens) @ head["weight"].astype(np.float64).T + head["bias"]
        return [labels[index] for index in logits.argmax(axis=1)]

    with closing(deployed(text)) as model:
        assert model.labels == tuple(labels)
        served = [found["label"] for found in model.infer(sentences)]

    assert same(predictions(sentences), served) >= 0.98
    with adapted.disable_adapter():
        assert same(predictions(sentences[:360]), served[:360]) < 0.98
    right = same(served, [row["label"] for row in rows_of(text, "test")])
    assert right == pytest.approx(text.result["joint"]["16"], abs=0.005)


def same(one: list[str], other: list[str]) -> float:
    """On how many of the rows two lists agree, as a share."""
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))


# ----------------------------------------------------------------------------- the user's own things


@pytest.fixture(scope="session")
def own_things(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options that name a tiny untrained model, and rows of which a few say who holds them."""
    folder = tmp_path_factory.mktemp("own")
    model = tiny_bert(folder / "tiny-bert", layers=2)
    words = [word for word in WORDS if word.isalpha()]
    rows: list[dict[str, str]] = []
    for i in range(120):
        line = {
            "text": f"{words[i % 7]} {words[i % 11]} number{i}",
            "label": ("it's <one>", "two", "three & more")[i % 3],
        }
        rows.append({**line, "device": BOARDS[0]} if i % 5 == 0 else line)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--model", model, "--data", data]


def test_own_rows_and_model_are_never_judged(own_things: list[object], tmp_path: Path) -> None:
    """A random model learns nothing, and that is no failure: exit code 0, all invariants held, nothing judged."""
    run = demo(tmp_path / "out", "text", *own_things, "--rounds", 1, "--seed", 3)

    assert (run.code, run.complaints) == (0, "")
    result = run.result
    assert (result["learning"], result["model"], result["seed"]) == ([], "tiny-bert", 3)
    assert [(check["words"], check["held"]) for check in result["invariants"]] == [
        (words, True) for words in INVARIANTS
    ]
    assert [words for words, _ in result["by_round"]] == ["head", "train 1", "head again"]
    assert {row["label"] for row in rows_of(run, BOARDS[0])} == {"it's <one>", "two", "three & more"}
    page = Page((run.out / "report.html").read_text())
    assert "it's <one>" in page.text
    assert page.wrong == []


def test_ctrl_c_leaves_no_process(own_things: list[object], tmp_path: Path) -> None:
    """Interrupted in the middle of the rounds, the run ends soon with exit code 130; all that it started is gone."""
    out = tmp_path / "out"
    line = command(out, *own_things, "--rounds", 1000)
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or trained(out))
        assert process.poll() is None, process.communicate()[1]
        started = descendants(process.pid)
        agents = mentioning(str(out / "fleet"))
        assert len(agents) == 5  # the hub, its server agent, three boards
        assert started >= set(agents)
        assert len(started) > 5  # and workers

        os.kill(process.pid, signal.SIGINT)
        printed, complaints = process.communicate(timeout=END_S)

    assert (process.returncode, printed, complaints) == (130, "", "")
    assert mentioning(str(out)) == {}
    assert [pid for pid in started if not is_gone(pid)] == []


def trained(out: Path) -> bool:
    """Whether an agent has its first receipt for trained factors."""
    states = out.glob("fleet/devices/*/state")
    return any(receipt["kind"] == "adapter" for state in states for receipt in read_receipts(state))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
