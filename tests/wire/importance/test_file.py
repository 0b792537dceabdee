"""The importance file and what boards say: the same comes back, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.errors import BadData, StorageError
from wire.importance.file import FORMAT, Importance, SlotImportance, parse_importance, read_importance, to_bytes
from wire.importance.told import MOST_SLOTS, read_told, text_of

SLOTS = {"b.query": SlotImportance(0.5, 0.25, 3), "a.query": SlotImportance(1.5, 0.0, 2)}
ONE = Importance(FORMAT, 1, "toy-1", "data", 3, SLOTS, rows=48)


def bent(**changed: object) -> bytes:
    """The file with other fields."""
    return json.dumps({**json.loads(to_bytes(ONE)), **changed}).encode()


def test_a_file_comes_back(tmp_path: Path) -> None:
    """What was written is read, fields of later versions too, and slots stand in one order."""
    path = tmp_path / "importance.json"
    path.write_bytes(bent(later={"x": 1}))
    found = read_importance(path)
    assert found.scores("hsplitlora") == {"a.query": 1.5, "b.query": 0.5}
    assert json.loads(to_bytes(found))["later"] == {"x": 1}
    assert list(json.loads(to_bytes(ONE))["slots"]) == ["a.query", "b.query"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "expected importance as JSON"),
        (b"[]", "expected a table"),
        (bent(schema=2), "of schema 1 in x.json, found format 'edgequilt-importance' schema 2"),
        (bent(format="other"), "found format 'other'"),
        (bent(slots={}), "expected 1 to 16384 slots, found 0"),
        (bent(slots={"a\n": {"hsplitlora": 1, "fedpipe": 1, "count": 1}}), "printable"),
        (bent(slots={"a": {"hsplitlora": -1, "fedpipe": "x"}}), "slots.a.hsplitlora: expected at least 0"),
        (bent(slots={"a": {"hsplitlora": -1, "fedpipe": "x"}}), "slots.a.count: missing"),
        (bent(source="guess"), "expected one of data, boards"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    """Each fault is named with what was expected."""
    with pytest.raises(BadData) as caught:
        parse_importance(data, "x.json")
    assert words in str(caught.value)


def test_an_absent_file_is_said(tmp_path: Path) -> None:
    """A path without a file is an error of ours."""
    with pytest.raises(StorageError, match="importance file"):
        read_importance(tmp_path / "none.json")


def test_what_a_board_says_is_bounded() -> None:
    """The largest slots are told to four digits; a number that is none is left out."""
    many = {f"s{i}": float(i) for i in range(MOST_SLOTS + 5)}
    found = read_told(text_of({**many, "wild": float("nan"), "less": -1.0}), "a board")
    assert len(found) == MOST_SLOTS
    assert found.keys() == {f"s{i}" for i in range(5, MOST_SLOTS + 5)}
    assert found["s2000"] == 2000
    assert read_told(text_of({"a": 1.23456e-7}), "a board") == {"a": 1.235e-7}
    assert read_told("", "a board") == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": -1}', '{"a": true}', '{"a": "1"}', '{"a": 1e300}', "x" * 200_000])
def test_what_a_board_may_not_say_is_refused(text: str) -> None:
    """Anything but a bounded table of numbers of at least 0 is refused."""
    with pytest.raises(BadData, match="from a board"):
        read_told(text, "a board")
