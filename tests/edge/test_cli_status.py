"""`edgequilt agent status` and `logs`, of an agent that runs, that ended, that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.errors import HubError, StorageError, TransportError, UsageError
from edge.cli_logs import follow, journal, kept, since
from edge.cli_status import health_code, page, release_in_use
from edge.logs import FILE
from tests.conftest import ROOT
from tests.edge.boards import make_board
from tests.edge.test_agent import write_toml
from tests.edge.test_surroundings import kernel
from tests.processes import started, until

COMMAND = [sys.executable, "edgequilt.py", "agent"]


def said(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A verb."""
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_status_and_the_log_of_an_agent_that_runs_and_has_ended(tmp_path: Path) -> None:
    """It runs without a connection (15), then not at all (1); readings of the board are fresh; its log stays."""
    board = make_board(tmp_path / "b")
    config = str(write_toml(tmp_path / "b"))
    root = str(kernel(tmp_path / "root", {"sys/class/thermal/thermal_zone0/temp": "91000\n"}))
    environment = {k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"}
    run = [*COMMAND, "run", "--config", config]
    with started(run, stderr=subprocess.DEVNULL, env=environment) as process:
        until((board.config.state / "status.json").exists, process)
        up = said("status", "--config", config, "--root", root, "--json")
        told = json.loads(up.stdout)
        text = said("status", "--config", config, "--root", root).stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert up.returncode == TransportError.exit_code
    assert (told["running"], told["connected"], told["device"]) == (True, False, "barn-1")
    assert told["health"]["temperature_c"] == 91.0
    assert told["warnings"] == ["hot"]
    assert "agent barn-1 of farm runs" in text
    assert "91 °C" in text
    assert "edgequilt agent doctor" in text

    down = said("status", "--config", config)
    assert down.returncode == 1
    assert "agent barn-1 of farm does not run" in down.stdout

    log = said("logs", "--config", config)
    assert log.returncode == 0
    assert "INFO agent barn-1 of farm, model" in log.stdout
    assert said("logs", "--config", config, "--lines", "1").stdout.strip() == log.stdout.strip().splitlines()[-1]
    assert said("logs", "--config", config, "--since", "2001-01-01").stdout == log.stdout
    assert said("logs", "--config", config, "--since", "2999-01-01").stdout == ""


def test_where_nothing_ever_ran_the_status_says_so_and_there_is_no_log(tmp_path: Path) -> None:
    """No traceback, the codes of their classes."""
    config = str(tmp_path / "agent.toml")
    assert said("status", "--config", config).returncode == 1
    found = said("logs", "--config", config)
    assert found.returncode == StorageError.exit_code
    assert "expected a journal of edgequilt-agent.service or a log file" in found.stderr


CODES: list[tuple[dict[str, Any], int]] = [
    ({"running": True, "connected": True, "warnings": []}, 0),
    ({"running": True, "connected": True, "warnings": ["hot"]}, 1),
    ({"running": True, "connected": True, "trouble": "nobody listens", "warnings": []}, HubError.exit_code),
    ({"running": True, "connected": False, "warnings": []}, TransportError.exit_code),
    ({"running": False, "connected": True, "warnings": []}, 1),
    ({"running": None, "warnings": []}, 1),
]


@pytest.mark.parametrize(("found", "code"), CODES)
def test_the_exit_code_says_whether_the_agent_is_well(found: dict[str, Any], code: int) -> None:
    """0 for one that runs, is connected, and has nothing to complain of."""
    assert health_code(found) == code


def test_a_page_has_what_there_is_and_nothing_that_a_terminal_would_act_on() -> None:
    """A job, a bundle on its way, why it ended; and control characters of foreign origin are spelled out."""
    health = dict.fromkeys(("temperature_c", "memory_available_bytes", "disk_free_bytes", "uptime_s"))
    found = {
        "running": False,
        "device": "barn",
        "fleet": "farm",
        "health": health,
        "warnings": [],
        "release": "1",
        "written_s_ago": 7.0,
        "trouble": "red \x1b[31m",
        "bundle_coming": {"bytes": 5, "of": 9, "bundle": "0" * 64},
        "jobs": [{"job": "x", "kind": "train", "round": 3, "state": "waiting"}],
        "ended": {"times": 4, "sentence": "expected a hub", "kind": "HubError", "at_s": 0.0},
    }
    text = page(found)

    for words in ("5 of 9 bytes", "train of round 3: waiting", "it ended 4 times: expected a hub", "7s ago"):
        assert words in text
    assert "\x1b" not in text


def test_the_release_is_what_the_link_names(tmp_path: Path) -> None:
    """Where releases are, the link says which one starts; elsewhere it is the installed program's version."""
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "0.9.1")
    assert release_in_use(tmp_path / "current") == "0.9.1"
    assert release_in_use(tmp_path / "none")


def test_the_journal_is_asked_for_what_was_asked() -> None:
    """The options of journalctl."""
    assert journal(None, None, follow=False)[1:] == [
        "--unit=edgequilt-agent.service",
        "--output=short-iso",
        "--no-pager",
    ]
    assert journal(5, 60.0, follow=True)[-3:] == ["--since=@60", "--lines=5", "--follow"]


def test_a_time_that_is_none_is_refused() -> None:
    """By words that say what is expected."""
    assert since("90 s", 100.0) == 10.0
    with pytest.raises(UsageError, match="expected --since as 30min"):
        since("yesterday", 0.0)


def test_lines_without_a_time_belong_to_the_one_before(tmp_path: Path) -> None:
    """A traceback goes with its line, and the older file comes first."""
    old, new = tmp_path / "agent.log.1", tmp_path / "agent.log"
    old.write_text("2026-11-26T10:00:00+0000 INFO a\n  of a\n2026-11-26T12:00:00+0000 INFO b\n  of b\n")
    new.write_text("2026-11-26T14:00:00+0000 INFO c\n")

    assert list(kept([old, new], since("2026-11-26T11:00:00+00:00", 0.0))) == [
        "2026-11-26T12:00:00+0000 INFO b",
        "  of b",
        "2026-11-26T14:00:00+0000 INFO c",
    ]


def test_following_goes_on_where_the_next_file_begins(tmp_path: Path) -> None:
    """What is written after the log was turned over comes too, and nothing twice."""
    log = tmp_path / FILE
    log.write_text("before\n")
    lines = follow(log)
    with started([sys.executable, "-c", WRITES, str(log)], stdout=subprocess.PIPE):
        assert [next(lines) for _ in range(4)] == ["one", "two", "three", "four"]


WRITES = """
import sys, time
from pathlib import Path
log = Path(sys.argv[1])
time.sleep(0.7)
with log.open("a") as file:
    file.write("one\\ntw")
    file.flush()
    time.sleep(0.7)
    file.write("o\\n")
log.rename(log.with_name("agent.log.1"))
log.write_text("three\\n")
time.sleep(1.5)
with log.open("a") as file:
    file.write("four\\n")
"""
