"""An agent as a process of its own, asked over its socket by the command and by programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.errors import BadData, TransportError, UsageError
from edge.cli import main
from edge.data.board import board_data
from edge.memory import memory
from tests.edge.boards import Board, make_board
from tests.edge.identity.test_journey import Farm, well
from tests.edge.local.programs import ask
from tests.edge.test_agent import write_toml
from tests.processes import started, until
from tests.programs import mosquitto
from wire.files import digest

COMMAND = [sys.executable, "-m", "edgequilt"]
CORE_BYTES = 35 << 20


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle."""
    return make_board(tmp_path)


@contextmanager
def running(board: Board, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Its agent, whose broker is not there, once it listens at `path`."""
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        config = write_toml(board.folder, url=f"mqtt://127.0.0.1:{taken.getsockname()[1]}")
        config.write_text(f'{config.read_text()}\n[local]\nsocket = "{path}"\n')
        command = [*COMMAND, "agent", "run", "--config", str(config)]
        with started(command, stderr=subprocess.PIPE) as agent:
            until(path.exists, agent)
            yield agent


def test_a_running_agent_is_asked_and_corrected(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a hub it answers programs and the command; labels are kept; it stays small and takes its socket along."""
    config = str(board.folder / "agent.toml")
    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "a.sock"
        with running(board, path) as agent:
            status, found = ask(path, "POST", "/v1/infer", {"text": "red sun"})
            assert (status, found["version"]) == (200, None)
            assert main(["infer", "--socket", str(path), "--json", "red sun"]) == 0
            asked = json.loads(capsys.readouterr().out)
            assert (asked["sample"], asked["id"]) == ("red sun", digest(b"red sun"))
            assert asked["scores"] == found["answers"][0]["scores"]
            assert main(["infer", "--config", config, "red sun"]) == 0
            line = capsys.readouterr().out
            assert ask(path, "GET", "/v1/status")[1]["local"]["requests"] == 3

            assert main(["feedback", "red sun", "--label", "b", "--socket", str(path)]) == 0
            assert "b is kept for the next training; corrected by now: 1 label" in capsys.readouterr().out
            assert main(["feedback", asked["id"], "--label", "b", "--config", config, "--json"]) == 0
            assert not json.loads(capsys.readouterr().out)["new"]
            with pytest.raises(BadData, match="expected one of the labels a, b, c, found 'moth'"):
                main(["feedback", "red sun", "--label", "moth", "--socket", str(path)])
            with pytest.raises(UsageError, match="expected --socket alone"):
                main(["infer", "--socket", str(path), "--bundle", str(board.bundle), "x"])
            resident = memory(agent.pid)["resident_bytes"]
            agent.send_signal(signal.SIGTERM)
            assert agent.stderr is not None
            said = agent.stderr.read()
            assert agent.wait(30) == 0

        assert resident <= CORE_BYTES
        assert "Traceback" not in said
        assert os.listdir(short) == []  # noqa: PTH208  # names alone
        assert main(["infer", "--config", config, "red sun"]) == 0  # now it loads the bundle itself
        assert capsys.readouterr().out == line
        with pytest.raises(TransportError, match=r"expected an agent at .*; does it run"):
            main(["feedback", "x", "--label", "a", "--socket", str(path)])


def test_a_place_that_somebody_named_must_be_there(board: Board) -> None:
    """Where the socket of agent.toml cannot be, the agent does not start, and says what to change."""
    config = write_toml(board.folder)
    config.write_text(f'{config.read_text()}\n[local]\nsocket = "{"x" * 120}"\n')

    with pytest.raises(TransportError, match="expected a path of at most 103 bytes for the local socket"):
        main(["run", "--config", str(config)])


@pytest.mark.fleet
@pytest.mark.heavy
def test_what_was_corrected_is_learned_in_the_next_round(tmp_path: Path) -> None:
    """A claimed board, corrected over its socket by a program, sends statistics of its rows and of that label."""
    mosquitto()
    farm = Farm(tmp_path)
    board = tmp_path / "b"
    with tempfile.TemporaryDirectory() as short, farm.up():
        path = Path(short) / "a.sock"
        (made,) = well("hub", "enroll", "barn-1", "--hub", str(farm.hub), "--expires", "2h")["tokens"]
        told = ("--bundle", str(farm.board.bundle), "--data", str(farm.board.config.data))
        well("agent", "claim", "--token-file", "-", "--dir", str(board), *told, text=made["token"] + "\n")
        config = board / "agent.toml"
        config.write_text(f'{config.read_text()}\n[local]\nsocket = "{path}"\n')
        with started([*COMMAND, "agent", "run", "--config", str(config)]) as agent:
            until(lambda: farm.online("barn-1"), agent)
            first = ask(path, "POST", "/v1/infer", {"text": "leaf leaf sea"})[1]["answers"][0]
            body = {"sample": first["sample"], "label": "c"}
            assert ask(path, "POST", "/v1/feedback", body)[1]["new"]

            well("hub", "round", "open", "--kind", "statistics", "--wait", "--hub", str(farm.hub))

            jobs = ask(path, "GET", "/v1/status")[1]["jobs"]
            agent.terminate()
            assert agent.wait(30) == 0
    rows = board_data(farm.board.config.data, farm.board.manifest, 0.1, board / "state" / "feedback")
    label = farm.board.manifest.labels.index("c")
    assert [row.label for row in rows.all if row.sample == "leaf leaf sea"] == [label]
    assert [(job["kind"], job["state"], job["samples"]) for job in jobs if job["kind"] == "statistics"] == [
        ("statistics", "accepted", len(rows.train))
    ]
