"""`edgequilt devices` as its users see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.errors import BadData, UsageError
from devices.cli import main
from devices.profile import FOLDER, load, names


def test_list_has_a_row_per_board(capsys: pytest.CaptureFixture[str]) -> None:
    """`list` names every board, with its budget, or a dash and `no` where no agent can run."""
    assert main(["list"]) == 0

    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    assert sorted(rows) == names()
    assert "216.2 MiB" in rows["raspberry-pi-zero-2w"]
    assert rows["jetson-nano-4gb"].endswith("no")
    assert " - " in rows["jetson-nano-4gb"]


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`list --json` holds the same boards, in bytes."""
    assert main(["list", "--json"]) == 0

    boards = {board["id"]: board for board in json.loads(capsys.readouterr().out)}
    assert sorted(boards) == names()
    assert boards["server"]["budget_bytes"] == load("server").budget_bytes


def test_show_says_the_source_of_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints each number of a profile beside its source."""
    assert main(["show", "raspberry-pi-4-2gb"]) == 0

    lines = capsys.readouterr().out.splitlines()
    for name, figure in load("raspberry-pi-4-2gb").figures().items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line.endswith(figure.source)
    assert any("1.31.1, not 1.21.0" in line for line in lines)


def test_show_says_why_there_is_no_agent(capsys: pytest.CaptureFixture[str]) -> None:
    """`show` of a board without a possible agent begins with the reason."""
    assert main(["show", "jetson-nano-4gb"]) == 0

    assert capsys.readouterr().out.splitlines()[1].startswith("no agent: JetPack 4 has Python 3.6")


def test_show_as_json_is_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    """`show --json` holds each number with its source."""
    assert main(["show", "raspberry-pi-zero-2w", "--json"]) == 0

    board = json.loads(capsys.readouterr().out)
    assert board["memory_available_bytes"]["value"] == 292 << 20
    assert board["memory_available_bytes"]["source"].startswith("measured: ")


def test_a_folder_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--profiles FOLDER` shows a board of the user's own; a broken file there is one sentence."""
    text = (FOLDER / "server.toml").read_text(encoding="utf-8")
    (tmp_path / "attic.toml").write_text(text.replace('id = "server"', 'id = "attic"'), encoding="utf-8")

    assert main(["show", "attic", "--profiles", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("attic: ")

    (tmp_path / "attic.toml").write_text("id = ", encoding="utf-8")
    with pytest.raises(BadData, match=r"expected TOML in .*attic\.toml"):
        main(["list", "--profiles", str(tmp_path)])


@pytest.mark.parametrize(
    ("line", "said"),
    [([], "arguments are required"), (["show"], "NAME"), (["paint"], "invalid choice: 'paint'")],
    ids=["no verb", "no name", "another verb"],
)
def test_a_wrong_line_is_a_usage_error(line: list[str], said: str) -> None:
    """A wrong command line is refused with what was wrong and the usage."""
    with pytest.raises(UsageError, match=said) as info:
        main(line)

    assert "usage: edgequilt devices" in str(info.value)
