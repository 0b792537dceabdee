"""A fix from the command line: hub, server agent and board in processes of their own, over a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.fleet import SERVER, Fleet
from sim.processes import Processes
from tests.edge.bundles import make_bundle
from tests.hub.fixes import write_rows
from tests.sim.test_deploy import until
from wire.keys import new_key, write_key

pytestmark = pytest.mark.heavy
BOARD, WRONG, WAS, RIGHT = "barn", "blue red blue", "a", "c"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with a server agent and a board; version 1 is in use."""
    key = new_key("publisher", "tester")
    _, public = write_key(key, tmp_path)
    write_rows(tmp_path / "data.jsonl", seed=6)
    processes = Processes(tmp_path / "logs")
    with processes:
        made, configs = Fleet(tmp_path / "fleet", public, processes), {}
        made.prepare()
        for name, device in ((SERVER, "server"), (BOARD, "tester")):
            make_bundle(tmp_path / name, key, kind="text", device=device, forward_batch=32)
            configs[name] = made.join(name, tmp_path / name, tmp_path / "data.jsonl", 0.25)
        made.start(configs)
        made.round("statistics", [BOARD], "statistics")
        yield made


def command(*told: str) -> subprocess.CompletedProcess[str]:
    """A command of a person."""
    whole = [sys.executable, "-m", "edgequilt", *told]
    return subprocess.run(whole, check=False, capture_output=True, text=True, timeout=120)


def answer(fleet: Fleet) -> str:
    """What a program on the board is told, of the agent that runs there."""
    config = fleet.folder / "devices" / BOARD / "agent.toml"
    done = command("agent", "infer", "--config", str(config), "--json", WRONG)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["label"])


def test_a_person_fixes_an_answer_and_takes_it_back(fleet: Fleet) -> None:
    """`hub fix` says what it did, the board answers as asked without a restart, `--undo` brings back what was."""
    hub = ("--hub", str(fleet.hub))
    until(lambda: (fleet.status(BOARD)["released"] or {"version": -1})["version"] == 1)
    assert answer(fleet) == WAS
    before = fleet.status(BOARD)["released"]["digest"]

    done = command(
        "hub", "fix", *hub, "--input", WRONG, "--expect", RIGHT, "--paraphrase", f"{WRONG} {WRONG}", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["version"], found["report"]["paraphrases"]) == ("in use", 2, 1)
    until(lambda: fleet.status(BOARD)["released"]["version"] == 2)
    assert answer(fleet) == RIGHT
    listed = command("hub", "fix", *hub, "--list")
    assert "in use" in listed.stdout
    assert RIGHT in listed.stdout
    assert WRONG not in listed.stdout

    back = command("hub", "fix", *hub, "--undo", str(found["fix"]))
    assert back.returncode == 0, back.stderr
    until(lambda: fleet.status(BOARD)["released"]["digest"] == before)
    assert answer(fleet) == WAS

    refused = command("hub", "fix", *hub, "--input", "red red red red", "--expect", "b")
    assert refused.returncode != 0
    assert "drawdown:" in refused.stderr
    assert "the bar is 0.1 %" in refused.stderr
    assert "Traceback" not in refused.stderr
