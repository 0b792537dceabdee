"""The command `edgequilt agent`, its configuration, and what the core loads."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.errors import EdgequiltError, IntegrityError, SignatureError, StorageError, TransportError, UsageError
from edge.cli import main
from edge.config import read_config
from edge.setup import prepare
from tests.conftest import ROOT
from tests.edge.boards import Board, Farm, HereLink, make_board, write_data
from tests.edge.bundles import flip
from wire.memory import Network

TOML = """
[agent]
name = "barn-1"
fleet = "farm"
bundle = "bundle"
state = "state"
data = "data.jsonl"
{agent}
[broker]
url = "{url}"
[keys]
device = "keys/barn-1.key"
hub = "keys/hub.pub"
publisher = ["keys/tester.pub"]
"""
LOADED = """
import json, sys
import edge.cli, edge.config, edge.core, edge.link, edge.setup, wire.mqtt
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle and its agent.toml."""
    made = make_board(tmp_path)
    write_toml(tmp_path)
    return made


def write_toml(folder: Path, agent: str = "", url: str = "mqtt://127.0.0.1:1") -> Path:
    """Write agent.toml."""
    path = folder / "agent.toml"
    path.write_text(TOML.format(agent=agent, url=url))
    return path


def test_the_core_loads_nothing_heavy() -> None:
    """A fresh interpreter with the whole core in it has no numpy, onnxruntime, rich or second OpenSSL."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))

    assert {"edge", "wire", "paho", "nacl", "sqlite3"} <= loaded
    assert not loaded & {"numpy", "onnxruntime", "rich", "tokenizers", "PIL", "safetensors", "torch", "cryptography"}


def test_a_configuration_is_read_relative_to_its_folder(board: Board) -> None:
    """Paths, defaults and lists of keys."""
    config = read_config(board.folder / "agent.toml")

    assert (config.bundle, config.holdout, config.worker_idle_s) == (board.folder / "bundle", 0.1, 20.0)
    assert config.publisher_keys == (board.folder / "keys" / "tester.pub",)
    assert prepare(config).samples == 24


def test_everything_wrong_in_a_configuration_is_said_at_once(tmp_path: Path) -> None:
    """Absent, wrong and unknown entries come in one message; absent files in another."""
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nname = "Barn 1"\nholdout = 3\ncolour = 1\n[broker]\n[other]\n')
    with pytest.raises(UsageError) as found:
        read_config(path)
    for words in ("agent.name", "agent.fleet: missing", "agent.holdout", "broker.url: missing", "keys: missing"):
        assert words in str(found.value)
    assert "agent.colour: unknown entry" in str(found.value)
    assert "other: unknown table" in str(found.value)

    with pytest.raises(UsageError) as found:
        read_config(write_toml(tmp_path))
    for words in ("agent.bundle: expected a file", "agent.data", "keys.device", "keys.hub hub.pub", "keys.publisher"):
        assert words in str(found.value)


def second_agent(board: Board) -> None:
    """Another agent has the state folder; its lock stays open as long as this process."""
    board.config.state.mkdir()
    handle = os.open(board.config.state / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)


def unknown_label(board: Board) -> None:
    """A label that the model does not have."""
    write_data(board.config.data, 9, ("a", "b", "moth"))


def swap_keys(board: Board) -> None:
    """The hub's key in the publisher's place."""
    (board.folder / "keys" / "tester.pub").write_bytes((board.folder / "keys" / "hub.pub").read_bytes())


def other_publisher(board: Board) -> None:
    """A bundle of somebody else."""
    other = make_board(board.folder / "other")
    board.bundle.rename(board.folder / "gone")
    other.bundle.rename(board.bundle)


REFUSED: dict[str, tuple[Callable[[Board], Any], type[EdgequiltError], str]] = {
    "a flipped byte": (
        lambda b: flip(b.bundle / "segment0.backward.train.onnx"),
        IntegrityError,
        "segment0.backward.train.onnx has another SHA-256",
    ),
    "another publisher's bundle": (other_publisher, SignatureError, "signed by a trusted publisher key"),
    "a key in another role": (swap_keys, SignatureError, "expected the public key of a publisher"),
    "an unknown label": (unknown_label, EdgequiltError, "line 3: unknown label 'moth', expected one of a, b, c"),
    "a second agent": (second_agent, StorageError, "found another agent on it"),
    "no broker address": (
        lambda b: write_toml(b.folder, url="http://x"),
        TransportError,
        "expected a broker like mqtt://",
    ),
}


@pytest.mark.parametrize(("change", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_an_agent_refuses_to_start(
    board: Board, change: Callable[[Board], Any], error: type[EdgequiltError], words: str
) -> None:
    """What is wrong before the start ends the command with one sentence and leaves no agent behind."""
    change(board)

    with pytest.raises(error, match=words):
        main(["run", "--config", str(board.folder / "agent.toml")])


def test_the_command_ends_cleanly_without_a_broker(board: Board) -> None:
    """With nobody at the broker's port the agent waits; SIGTERM ends it with code 0 and a last status."""
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        path = write_toml(board.folder, url=f"mqtt://127.0.0.1:{taken.getsockname()[1]}")
        command = [sys.executable, "-m", "edgequilt", "agent", "run", "--config", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as agent:
            assert agent.stderr is not None
            first = agent.stderr.readline()
            status = board.config.state / "status.json"
            end = time.monotonic() + 30
            while not status.exists() and time.monotonic() < end:
                time.sleep(0.05)
            agent.send_signal(signal.SIGTERM)
            rest = agent.stderr.read()

    assert "agent barn-1 of farm, model tiny, rank 2" in first
    assert "Traceback" not in rest
    assert "agent barn-1 ends" in rest
    assert agent.returncode == 0
    found = json.loads(status.read_text())
    assert (found["connected"], found["released"], found["jobs"]) == (False, None, [])


def test_bad_input_has_a_code_and_no_traceback(board: Board) -> None:
    """The command prints one sentence and its documented code."""
    flip(board.bundle / "segment0.forward.train.onnx")
    command = [sys.executable, "-m", "edgequilt", "agent", "run", "--config", str(board.folder / "agent.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == IntegrityError.exit_code
    assert done.stderr.count("\n") == 1
    assert "another SHA-256" in done.stderr


def test_infer_labels_texts(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """One line per text, or JSON; a bundle of another publisher is refused."""
    trust = str(board.folder / "keys" / "tester.pub")
    bundle = ["--bundle", str(board.bundle), "--trust", trust]

    assert main(["infer", *bundle, "red sun", "blue sea"]) == 0
    assert capsys.readouterr().out.splitlines() == ["a  33.3 %  red sun", "a  33.3 %  blue sea"]
    assert main(["infer", *bundle, "--json", "red sun"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["b"] == pytest.approx(1 / 3)
    with pytest.raises(SignatureError):
        main(["infer", "--bundle", str(board.bundle), "--trust", str(board.folder / "keys" / "hub.pub"), "x"])


def test_infer_answers_with_the_version_that_the_agent_serves(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """Before any release the base model answers; after one the same command answers with its factors and head."""
    config = ["--config", str(board.folder / "agent.toml"), "--json", "red sun"]
    assert main(["infer", *config]) == 0
    base = json.loads(capsys.readouterr().out)["scores"]
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    farm.hub.release(farm.hub.publish_version(board.manifest, 1), 1, 1)
    assert farm.run(lambda: core.store.released.served is not None)

    assert main(["infer", *config]) == 0

    found = json.loads(capsys.readouterr().out)["scores"]
    assert max(abs(found[k] - base[k]) for k in base) > 0.05
    assert sum(found.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="expected --config, or --bundle and --trust"):
        main(["infer", "red sun"])
