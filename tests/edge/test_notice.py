"""What the agent tells systemd, heard at a real socket; whoever listens there kills it as systemd would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.notice import Notice
from tests.edge.boards import Board, make_board
from tests.edge.test_agent import write_toml
from tests.processes import PATIENCE_S, started
from wire.broker import Broker
from wire.mqtt import MqttTransport

LIMIT_S = 1.5  # of the watchdog


class Heard:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path.replace("@", "\0"))
        self.lines: list[str] = []

    def listen(self, seconds: float) -> list[str]:
        """All that is said within a time, or up to the first message after it began."""
        self.socket.settimeout(seconds)
        try:
            found = self.socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return []
        self.lines += found
        return found

    def until(self, line: str) -> None:
        """Wait for a line that begins so."""
        ends = time.monotonic() + PATIENCE_S
        while not any(said.startswith(line) for said in self.lines) and time.monotonic() < ends:
            self.listen(1.0)
        assert any(said.startswith(line) for said in self.lines), self.lines

    def kill_when_silent(self, process: subprocess.Popen[str], limit_s: float) -> None:
        """systemd's watchdog: SIGABRT after so long without WATCHDOG=1."""
        fed_at, ends = time.monotonic(), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < ends:
            if "WATCHDOG=1" in self.listen(0.2):
                fed_at = time.monotonic()
            if time.monotonic() - fed_at > limit_s:
                process.send_signal(signal.SIGABRT)
                process.wait(20)


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Heard]]:
    """A socket of each kind."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edgequilt-test-{os.getpid()}-{time.monotonic()}"
    made = Heard(name)
    yield name, made
    made.socket.close()


@contextmanager
def agent(board: Board, name: str, limit_s: float = LIMIT_S) -> Iterator[subprocess.Popen[str]]:
    """The real program; no broker is there."""
    config = write_toml(board.folder)
    told = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(limit_s * 1e6))}
    command = [sys.executable, "edgequilt.py", "agent", "run", "--config", str(config)]
    with started(command, env={**os.environ, **told}, stderr=subprocess.DEVNULL) as process:
        yield process


def test_an_agent_that_runs_is_ready_feeds_the_watchdog_and_says_when_it_ends(
    heard: tuple[str, Heard], tmp_path: Path
) -> None:
    """READY comes once, WATCHDOG while it turns (also without a broker), a status line, STOPPING before its end."""
    name, ear = heard
    with agent(make_board(tmp_path / "board"), name) as process:
        ear.until("READY=1")
        ear.until("STATUS=not connected")
        for _ in range(3):
            ear.lines.clear()
            ear.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        ear.lines.clear()
        ear.until("STOPPING=1")
        assert process.wait(30) == 0


# A real core on a real transport, whose link never comes back from looking after its worker once a file is there.
HANGS = """
import sys, threading, time
from pathlib import Path
from edge.config import read_config
from edge.core import Core
from edge.link import WorkerLink
from edge.notice import Notice
from edge.setup import broker_of, prepare
from wire.mqtt import MqttTransport

class Stuck(WorkerLink):
    def poll(self):
        while Path(sys.argv[2]).exists():
            time.sleep(0.1)
        return 0.1

config, notice = read_config(Path(sys.argv[1])), Notice()
core = Core(prepare(config), MqttTransport(broker_of(config), "hangs"), Stuck())
core.start()
notice.strict()
core.run(threading.Event(), notice)
"""


def test_a_core_that_hangs_is_killed_though_its_network_thread_lives(tmp_path: Path) -> None:
    """The core waits for ever inside a turn: it feeds no more and is ended; before that it was fed and lived."""
    name, board = str(tmp_path / "notify"), make_board(tmp_path / "board")
    ear, hang = Heard(name), tmp_path / "hang"
    command = [sys.executable, "-c", HANGS, str(write_toml(board.folder)), str(hang)]
    told = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(LIMIT_S * 1e6))}
    with started(command, env={**os.environ, **told}, stderr=subprocess.DEVNULL) as process:
        for _ in range(3):
            ear.lines.clear()
            ear.until("WATCHDOG=1")
        assert process.poll() is None
        hang.touch()
        ear.kill_when_silent(process, LIMIT_S)
        assert process.wait(5) == -signal.SIGABRT
    ear.socket.close()


def test_a_start_has_patience_and_a_running_core_has_not(tmp_path: Path) -> None:
    """While it starts the watchdog is told to wait long, and from the first turn on as long as the unit says."""
    name = str(tmp_path / "notify")
    ear = Heard(name)
    with agent(make_board(tmp_path / "board"), name):
        ear.until(f"WATCHDOG_USEC={LIMIT_S * 1e6:.0f}")
        said = [line for line in ear.lines if line.startswith("WATCHDOG_USEC=")]
        assert said == ["WATCHDOG_USEC=900000000", said[0], f"WATCHDOG_USEC={LIMIT_S * 1e6:.0f}"][-len(said) :]
        assert said[0] == "WATCHDOG_USEC=900000000"
    ear.socket.close()


def test_a_dead_network_thread_starves_the_watchdog(tmp_path: Path) -> None:
    """A transport whose thread has ended is not alive, and then nothing is fed, however often the core turns."""
    ear = Heard(str(tmp_path / "notify"))
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    now = [0.0]
    notice, transport = Notice(told, lambda: now[0]), MqttTransport(Broker("127.0.0.1", 1), "lives")
    assert not transport.lives()  # not begun
    transport.start(lambda topic, payload: None, lambda up: None)
    assert transport.lives()
    assert notice.beat(transport.lives) == 1.0
    assert ear.listen(5) == ["WATCHDOG=1"]
    assert notice.beat(transport.lives) == 1.0
    assert ear.listen(0.1) == []  # fed already

    transport.close()
    now[0] = 1.0
    assert not transport.lives()
    assert notice.beat(transport.lives) == 1.0
    assert ear.listen(0.1) == []
    ear.socket.close()


def test_without_systemd_nothing_is_said_and_nothing_is_due(tmp_path: Path) -> None:
    """No NOTIFY_SOCKET, a socket of another kind, another process's watchdog, or nobody there: no error, no beat."""
    for told in ({}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notice = Notice({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", **told})
        notice.ready()
        notice.patient()
        notice.status("a line")
        assert notice.beat(lambda: True) is None


def test_a_status_is_one_line_and_said_when_it_changes(tmp_path: Path) -> None:
    """Line breaks in it would be messages of their own."""
    ear = Heard(str(tmp_path / "notify"))
    notice = Notice({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for line in ("connected\nWATCHDOG=trigger", "connected WATCHDOG=trigger", "gone"):
        notice.status(line)
    assert ear.listen(5) == ["STATUS=connected WATCHDOG=trigger"]
    assert ear.listen(5) == ["STATUS=gone"]
    assert ear.listen(0.1) == []
    ear.socket.close()
