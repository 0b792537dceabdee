"""The page of boards is made of the profiles and says where they are weak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.cli import main
from devices.page import page
from devices.profile import load, names

PAGE = Path(__file__).parents[2] / "docs" / "boards.md"


def test_the_page_in_docs_is_of_these_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/boards.md is what the command in it prints."""
    assert main(["list", "--markdown"]) == 0

    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out


def test_every_board_has_one_row() -> None:
    """Each profile is named in the table of boards once."""
    table = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]

    assert [table.count(f"| `{name}` |") for name in names()] == [1] * len(names())


def test_what_is_not_known_is_said() -> None:
    """An unverified number, a board without an agent and another provider are each named below the table."""
    board = replace(
        load("server"), agent="no", agent_reason="it is a lamp", providers=("CPUExecutionProvider", "LampProvider")
    )

    said = page([board]).partition("\n## ")[2]

    assert "* `server`: it is a lamp." in said
    assert "* `LampProvider`: `server`." in said
    assert "* memory_available_bytes: `server`." in said
