"""From nothing to a board that works, as a user would do it: every program is the real one."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hub.config import FILE
from hub.serving import control
from tests.conftest import ROOT
from tests.edge.boards import Board, make_board
from tests.processes import started, until
from tests.programs import mosquitto

COMMAND = [sys.executable, "-m", "edgequilt"]


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command, until it ends."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, input=text, check=False, timeout=120
    )


def well(*arguments: str, text: str | None = None) -> Any:
    """The same, with its JSON; it must succeed."""
    done = run(*arguments, "--json", text=text)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Farm:
    """A hub's folder, and a bundle with rows for its board."""

    def __init__(self, folder: Path, days: float = 365) -> None:
        self.folder, self.hub, self.port, self.broker = folder, folder / "hub", free_port(), free_port()
        self.board: Board = make_board(folder / "made")
        public = folder / "made" / "keys" / f"{self.board.publisher.public.name}.pub"
        listen = f"127.0.0.1:{self.broker}"
        well("hub", "init", str(self.hub), "--fleet", "farm", "--publisher", str(public), "--listen", listen)
        text = (self.hub / FILE).read_text().replace("127.0.0.1:8884", f"127.0.0.1:{self.port}")
        (self.hub / FILE).write_text(text.replace("certificate_days = 365", f"certificate_days = {days}"))
        well("hub", "add", str(self.board.bundle), "--hub", str(self.hub))

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        """The hub, ready."""
        command = [*COMMAND, "hub", "up", str(self.hub), "--broker", "mosquitto", "--json"]
        with started(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["tls"], ready["web"]) == (True, f"127.0.0.1:{self.port}")
            yield process
            process.terminate()
            assert process.wait(30) == 0

    def online(self, name: str) -> bool:
        """Whether the hub has heard a device."""
        found = control.ask(self.hub, {"request": "status"})["devices"]
        return any(device["device"] == name and device["online"] for device in found)


def words_of(process: subprocess.Popen[str]) -> list[str]:
    """What a program says on its error stream, line by line, as it comes."""
    assert process.stderr is not None
    said: list[str] = []
    stream = process.stderr
    threading.Thread(target=lambda: said.extend(iter(stream.readline, "")), daemon=True).start()
    return said


@pytest.mark.fleet
@pytest.mark.heavy
def test_from_a_token_to_hello(tmp_path: Path) -> None:
    """A token, a claim, an agent: the board says hello over mutual TLS; the token is good for nothing afterwards."""
    mosquitto()
    farm = Farm(tmp_path)
    with farm.up():
        (made,) = well("hub", "enroll", "barn-1", "--hub", str(farm.hub), "--expires", "2h")["tokens"]
        board = tmp_path / "b"
        told = ("--bundle", str(farm.board.bundle), "--data", str(farm.board.config.data))
        found = well("agent", "claim", "--token-file", "-", "--dir", str(board), *told, text=made["token"] + "\n")
        assert found == {"device": "barn-1", "fleet": "farm", "config": str(board / "agent.toml"), "asked": True}
        with started([*COMMAND, "agent", "run", "--config", str(board / "agent.toml")]) as agent:
            until(lambda: farm.online("barn-1"), agent)
            agent.terminate()
            assert agent.wait(30) == 0

        thief = run("agent", "claim", made["token"], "--dir", str(tmp_path / "thief"))
        assert (thief.returncode, thief.stderr.count("\n")) == (16, 1)
        assert "found that another board is barn-1 by it" in thief.stderr
        listed = run("hub", "enroll", "--list", "--hub", str(farm.hub)).stdout
        assert re.search(r"barn-1 +used +- +[0-9a-f]{16}", listed)


@pytest.mark.fleet
@pytest.mark.heavy
def test_a_flashed_board_by_itself(tmp_path: Path) -> None:
    """A card with a token waits for its hub, claims, removes the token, renews, and comes back with what it renewed."""
    mosquitto()
    farm = Farm(tmp_path, days=0.00012)
    board = tmp_path / "b"
    well("hub", "enroll", "barn-1", "barn-2", "--hub", str(farm.hub), "--out", str(board))
    (board / "barn-2.token").unlink()
    paths = {"bundle": farm.board.bundle, "data": farm.board.config.data}
    lines = "\n".join(f"{key} = {json.dumps(str(path))}" for key, path in paths.items())
    (board / "agent.toml").write_text(f'[claim]\ntoken_file = "barn-1.token"\n[agent]\n{lines}\n')

    with started([*COMMAND, "agent", "run", "--config", str(board / "agent.toml")], stderr=subprocess.PIPE) as agent:
        said = words_of(agent)
        until(lambda: any("the hub cannot be asked yet" in line for line in said), agent)
        assert (board / "barn-1.token").exists()
        with farm.up():
            until(lambda: farm.online("barn-1"), agent)
            assert not (board / "barn-1.token").exists()
            first = x509.load_pem_x509_certificate((board / "tls.pem").read_bytes())
            until(lambda: any("the certificate of barn-1 is renewed" in line for line in said), agent)
            until(lambda: datetime.now(timezone.utc) > first.not_valid_after_utc, agent)
        with farm.up():  # the first certificate does not open the broker any more
            until(lambda: farm.online("barn-1"), agent)
            agent.terminate()
            assert agent.wait(30) == 0
    assert "Traceback" not in "".join(said)
