"""Corrected labels on disk: which one counts, how many there are, and what a cut of power or a full disk leaves."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from console.errors import StorageError
from edge.data import corrections as module
from edge.data.board import board_data, count_board
from edge.data.corrections import Corrections, read_corrections
from edge.data.formats import read_data
from tests.edge.boards import Board, make_board
from wire.files import digest

PNG = b"\x89PNG\r\n\x1a\n"


def labels(folder: Path) -> dict[str, str]:
    """Text and label as a new process reads them, in order."""
    return {str(one.text or one.file): one.label for one in read_corrections(folder).values()}


def test_the_last_label_of_a_sample_counts(tmp_path: Path) -> None:
    """Said again it is no news, said otherwise it is; a restart in between changes nothing; the newest is last."""
    first = Corrections(tmp_path / "c")
    assert [first.put("text", text.encode(), "", label) for text, label in (("x", "a"), ("y", "b"), ("x", "a"))] == [
        True,
        True,
        False,
    ]
    second = Corrections(tmp_path / "c")

    assert second.put("text", b"x", "", "c")
    assert not Corrections(tmp_path / "c").put("text", b"x", "", "c")
    assert list(labels(tmp_path / "c").items()) == [("y", "b"), ("x", "c")]
    assert len(second) == 2


def test_the_file_is_a_data_file_by_itself(tmp_path: Path) -> None:
    """The door of JSONL reads it."""
    made = Corrections(tmp_path / "c")
    made.put("text", 'grün, \n \u2028 and "blue"'.encode(), "", "a")

    (row,) = read_data(tmp_path / "c" / "rows.jsonl", ("a", "b"), "text", 0.0).train
    assert (row.sample, row.label) == ('grün, \n \u2028 and "blue"', 0)


def test_there_are_so_many_and_the_oldest_go(tmp_path: Path) -> None:
    """Beyond the bound the newest three quarters stay, with their files and no others."""
    made = Corrections(tmp_path / "c", rows=8)
    for index in range(9):
        made.put("image", PNG + bytes([index]), ".png", "a")

    kept = [f"samples/{digest(PNG + bytes([index]))}.png" for index in range(3, 9)]
    assert list(labels(tmp_path / "c")) == kept
    assert sorted(f"samples/{p.name}" for p in (tmp_path / "c" / "samples").iterdir()) == sorted(kept)

    heavy = Corrections(tmp_path / "h", limit_bytes=100)
    for index in range(5):
        heavy.put("text", bytes([65 + index]) * 30, "", "a")
    assert [text[0] for text in labels(tmp_path / "h")] == ["C", "D", "E"] or len(labels(tmp_path / "h")) <= 3
    assert sum(len(text) for text in labels(tmp_path / "h")) <= 100


def test_labels_that_change_all_the_time_do_not_fill_the_disk(tmp_path: Path) -> None:
    """The file is written anew now and then: two samples whose labels change a thousand times take some lines."""
    made = Corrections(tmp_path / "c")
    for index in range(1000):
        made.put("text", b"xy"[index % 2 : index % 2 + 1], "", f"label {index}")

    lines = (tmp_path / "c" / "rows.jsonl").read_bytes().splitlines()
    assert len(lines) <= 2 + module.SLACK + 1
    assert labels(tmp_path / "c") == {"x": "label 998", "y": "label 999"}


def test_a_cut_of_power_leaves_what_was_before(tmp_path: Path) -> None:
    """Cut at any byte of the last line, the labels before it are there, and the next one comes after them."""
    made = Corrections(tmp_path / "c")
    for text in ("x", "y"):
        made.put("text", text.encode(), "", "a")
    path = tmp_path / "c" / "rows.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1

    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        found = labels(tmp_path / "c")
        assert found in ({"x": "a"}, {"x": "a", "y": "a"})
        assert Corrections(tmp_path / "c").put("text", b"z", "", "b")
        assert labels(tmp_path / "c") == {**found, "z": "b"}


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    """What cannot be written is an error, and the label of before still counts."""
    made = Corrections(tmp_path / "c")
    made.put("text", b"x", "", "a")
    path = tmp_path / "c" / "rows.jsonl"
    before = path.read_bytes()
    path.unlink()
    path.mkdir()  # nobody can append to a folder

    with pytest.raises(StorageError, match="expected to keep a label"):
        made.put("text", b"x", "", "b")

    path.rmdir()
    path.write_bytes(before)
    assert labels(tmp_path / "c") == {"x": "a"}
    assert made.put("text", b"x", "", "b")
    assert labels(tmp_path / "c") == {"x": "b"}


def test_labels_are_for_their_owner(tmp_path: Path) -> None:
    """Files that hold samples are readable by the agent's user alone."""
    made = Corrections(tmp_path / "c")
    made.put("image", PNG, ".png", "a")
    made.put("text", b"x", "", "a")

    files = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "c", tmp_path / "c" / "samples")} == {0o700}


def test_what_does_not_belong_to_the_bundle_is_left_out(tmp_path: Path) -> None:
    """After another bundle came, labels and samples that are not of it wait for the next one."""
    board: Board = make_board(tmp_path / "b")
    made = Corrections(tmp_path / "c")
    made.put("text", b"x y z", "", "moth")
    made.put("image", PNG, ".png", "a")
    made.put("text", b"x y", "", "a")
    lines = [json.loads(line) for line in board.config.data.read_text().splitlines()]

    found = board_data(board.config.data, board.manifest, 0.0, tmp_path / "c").train
    assert len(found) == len(lines) + 1 == count_board(board.config.data, board.manifest, tmp_path / "c").rows
    assert [row.sample for row in found if row.sample not in {line["text"] for line in lines}] == ["x y"]
