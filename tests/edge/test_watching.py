"""Data that grows while an agent runs: what is noticed, when it is counted, and what is broken in it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData
from edge.data.board import Counted, board_data, count_board
from edge.setup import prepare
from edge.watching import Watching, seen
from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board, status, write_data
from wire.memory import Network


def rows(path: Path, *texts: str, label: str = "a") -> None:
    """Write a file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text in texts))


def other_bytes(path: Path) -> None:
    """As long as before, at another time."""
    rows(path, "q")
    os.utime(path, ns=(1, 1))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a new file": lambda p: rows(p / "new.jsonl", "x"),
    "a new file below": lambda p: rows(p / "sub" / "deep" / "new.jsonl", "x"),
    "a file that grows": lambda p: rows(p / "a.jsonl", "x", "y", "z"),
    "a file that goes": lambda p: (p / "a.jsonl").unlink(),
    "a file under another name": lambda p: (p / "a.jsonl").rename(p / "b.jsonl"),
    "other bytes of the same length": lambda p: other_bytes(p / "a.jsonl"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    """Whatever happens to a file at any depth, what is seen of the folder differs; without a change it is the same."""
    rows(tmp_path / "a.jsonl", "x")
    rows(tmp_path / "sub" / "deep" / "b.jsonl", "x")
    before = seen(tmp_path)
    assert seen(tmp_path) == before

    change(tmp_path)

    assert seen(tmp_path) != before


def test_of_very_many_files_folders_are_looked_at(tmp_path: Path) -> None:
    """Beyond the bound no file is listed, and one that is added is seen all the same."""
    for index in range(30):
        rows(tmp_path / f"{index}.jsonl", "x")
    before = seen(tmp_path, files=10)
    assert len(before) == 1

    time.sleep(0.02)
    rows(tmp_path / "more.jsonl", "x")

    assert seen(tmp_path, files=10) != before
    assert seen(tmp_path / "nowhere") == ()


def test_half_written_files_are_not_counted(tmp_path: Path) -> None:
    """While a file changes nothing is counted; a few seconds after its last change it is, once; or after a minute."""
    rows(tmp_path / "a.jsonl", "x")
    told: list[Counted | str] = []
    counts: list[int] = []

    def count() -> Counted:
        counts.append(1)
        return Counted(len(counts))

    watching = Watching(tmp_path, count, told.append)
    now = 0.0
    watching.look(now)
    for step in range(6):
        rows(tmp_path / "a.jsonl", *("y" * (step + 2)))
        now += 5
        watching.look(now)
        assert (watching.settled, told) == (False, [])
    for _ in range(3):
        now += 5
        watching.look(now)
    assert watching.settled
    end = time.monotonic() + 10
    while not told and time.monotonic() < end:
        time.sleep(0.01)
    assert told == [Counted(1)]

    settled = []
    for step in range(14):
        rows(tmp_path / "a.jsonl", *("z" * (step + 20)))
        now += 5
        watching.look(now)
        settled.append(watching.settled)
    assert settled.index(True) == 12


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board whose data is a folder with a file in it."""
    made = make_board(tmp_path)
    folder = tmp_path / "data"
    rows(folder / "a.jsonl", *(f"{w} sun" for w in ("red", "green", "blue")))
    (folder / "b.csv").write_text("text,label\nsea leaf,b\n")
    made.config = replace(made.config, data=folder, holdout=0.0)
    return made


def settle(farm: Farm, true: Callable[[], Any]) -> bool:
    """Let time pass; counting is in a thread of its own."""
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        farm.run(true, seconds=2)
        time.sleep(0.01)
    return bool(true())


def test_new_samples_are_in_the_next_job(board: Board) -> None:
    """Files that come while the agent runs are counted, told to the hub, and are rows of the next job."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    assert settle(farm, lambda: farm.hub.hellos and farm.hub.hellos[-1].samples == 4)

    rows(board.config.data / "later" / "c.jsonl", "leaf sea", "leaf sun", label="c")

    assert settle(farm, lambda: core.data.counted.rows == 6)
    assert settle(farm, lambda: farm.hub.hellos[-1].samples == 6)
    statistics = jobs(farm.hub.publish_version(board.manifest, 1))[1]
    farm.hub.ask(statistics)
    assert farm.run(lambda: not farm.hub.open)
    assert [begin.samples for begin, _ in farm.hub.accepted.values()] == [6]


def test_broken_files_are_told_and_left_out(board: Board) -> None:
    """A file with a broken line is named in the status and left out whole; others count, and so does it once mended."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    bad = board.config.data / "bad.jsonl"
    rows(bad, "red sea", "blue leaf")
    with bad.open("a") as file:
        file.write('{"text": "half a li')

    assert settle(farm, lambda: core.data.counted.problems)
    farm.run(seconds=3)
    told = status(board)
    assert (told["samples"], told["data"]["problems_in_all"]) == (4, 1)
    assert "bad.jsonl: line 3: " in told["data"]["problems"][0]
    statistics = jobs(farm.hub.publish_version(board.manifest, 1))[1]
    farm.hub.ask(statistics)
    assert farm.run(lambda: not farm.hub.open)
    assert [begin.samples for begin, _ in farm.hub.accepted.values()] == [4]

    rows(bad, "red sea", "blue leaf")
    assert settle(farm, lambda: core.data.counted == Counted(6))


def test_a_single_file_that_breaks_ends_nothing(tmp_path: Path) -> None:
    """A file that is broken while the agent runs is told; its jobs fail with what to mend until it is mended."""
    board = make_board(tmp_path)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    board.config.data.write_text("no row at all\n")

    assert settle(farm, lambda: core.data.counted.problems)
    assert core.data.counted.rows == 24
    train, statistics, _ = jobs(farm.hub.publish_version(board.manifest, 1))
    farm.hub.ask(train)
    assert farm.run(lambda: train.job in farm.hub.failed)
    assert "mend these lines" in farm.hub.failed[train.job]
    write_data(board.config.data, 30)
    assert settle(farm, lambda: core.data.counted == Counted(30))
    farm.hub.ask(statistics)
    assert farm.run(lambda: farm.hub.accepted)


def test_a_folder_may_be_empty_at_the_start(board: Board) -> None:
    """A board that has no sample yet starts with none; a job then fails in a sentence, and the first samples count."""
    for path in board.config.data.iterdir():
        path.unlink()
    assert prepare_and_close(board) == Counted(0)
    with pytest.raises(BadData, match="expected rows in .*, found none; put files of JSONL or CSV into it"):
        board_data(board.config.data, board.manifest, 0.0)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    rows(board.config.data / "first.jsonl", "red sun", "blue sea")

    assert settle(farm, lambda: core.data.counted.rows == 2)


def prepare_and_close(board: Board) -> Counted:
    """What an agent would start with."""
    setup = prepare(board.config)
    assert setup.lock is not None
    setup.lock.close()
    return setup.counted


def test_pictures_come_by_the_name_of_their_folder(tmp_path: Path) -> None:
    """New pictures in folders by label count; a file of another kind is told and left out."""
    board = make_board(tmp_path, kind="image")
    folder = tmp_path / "pictures"
    for name in ("a/1.png", "b/2.png", "b/notes.txt", "moth/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")

    found = count_board(folder, board.manifest)

    assert (found.rows, found.problems_in_all) == (2, 2)
    assert any("b/notes.txt" in told for told in found.problems)
    assert any("folder moth: unknown label 'moth'" in told for told in found.problems)
    assert board.config.name == NAME
