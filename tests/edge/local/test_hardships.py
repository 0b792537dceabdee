"""Local requests to an agent that has no bundle, does not turn, or has no room on its disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.edge.boards import NAME, make_board
from tests.edge.local.test_api import Running


@pytest.fixture
def short() -> Iterator[Path]:
    """A place for a socket: its path may not be long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "a.sock"


def test_a_board_without_a_bundle_says_so(short: Path, tmp_path: Path) -> None:
    """All that needs one is 503 with the time to come again; how the agent is can be asked."""
    board = make_board(tmp_path / "b")
    board.config = replace(board.config, bundle=None, profile="raspberry-pi-5")
    agent = Running(board, short)
    try:
        asked = {
            "infer": {"text": "red"},
            "generate": {"prompt": "red"},
            "feedback": {"text": "red", "label": "a"},
        }
        told = [agent.ask("POST", f"/v1/{path}", body) for path, body in asked.items()]
        told.append(agent.ask("GET", "/v1/health"))
        status = agent.ask("GET", "/v1/status")
    finally:
        agent.close()
    sentence = "expected a bundle, found that the hub has named none yet; ask again later"
    assert told == [(503, {"error": sentence})] * 4
    assert (status[0], status[1]["device"], status[1]["bundle"]) == (200, NAME, "")


def test_a_core_that_does_not_turn_is_asked_in_vain(short: Path, tmp_path: Path) -> None:
    """Its status is then what it wrote last; samples are labelled all the same, by another process."""
    agent = Running(make_board(tmp_path / "b"), short)
    try:
        agent.core.call(agent.core.write_status)
        assert agent.until(agent.core.status.path.exists)
        agent.stop()
        status, found = agent.ask("GET", "/v1/status")
        answer = agent.ask("POST", "/v1/infer", {"text": "red"})
    finally:
        agent.close()
    assert (status, found["device"], found["local"]) == (200, NAME, {"requests": 0, "warm": False})
    assert answer[0] == 200


def test_a_label_that_cannot_be_kept_is_not_taken(short: Path, tmp_path: Path) -> None:
    """Where the disk says no the answer is 507, and 200 as soon as it says yes."""
    agent = Running(make_board(tmp_path / "b"), short)
    place = Path(agent.core.setup.place.corrections)
    try:
        place.write_bytes(b"in the way")
        refused = agent.ask("POST", "/v1/feedback", {"text": "red sun", "label": "b"})
        place.unlink()
        taken = agent.ask("POST", "/v1/feedback", {"text": "red sun", "label": "b"})
    finally:
        agent.close()
    assert refused[0] == 507
    assert refused[1].keys() == {"error"}
    assert (taken[0], taken[1]["new"], taken[1]["corrected"]) == (200, True, 1)
