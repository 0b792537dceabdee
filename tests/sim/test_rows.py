from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.errors import BadData, StorageError
from sim.rows import Row, as_lines, read_rows, write_rows
from sim.split import split_of


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def _good(count: int) -> list[dict[str, str]]:
    return [{"text": f"sentence number {i}", "label": "ab"[i % 2]} for i in range(count)]


BROKEN = {
    "not JSON": ("{text: 1}", "not JSON"),
    "a list": ("[1]", "expected a JSON object, found a list"),
    "null": ("null", "expected a JSON object, found null"),
    "no text": ('{"label": "a"}', "'text' is missing, found 'label'"),
    "no field": ("{}", "'text' is missing, found no field"),
    "no label": ('{"text": "t"}', "'label' is missing, found 'text'"),
    "a number": ('{"text": "t", "label": 3}', "'label' must be a string, found a number"),
    "a boolean": ('{"text": true, "label": "a"}', "'text' must be a string, found a boolean"),
    "empty text": ('{"text": "  ", "label": "a"}', "'text' is empty"),
    "a long label": (json.dumps({"text": "t", "label": "x" * 201}), "'label' has 201 characters, at most 200"),
    "half a surrogate": ('{"text": "\\ud800", "label": "a"}', "'text' holds half of a surrogate pair"),
    "a device of another kind": (
        '{"text": "t", "label": "a", "device": 1}',
        "'device' must be a string, found a number",
    ),
    "an unknown device": (
        '{"text": "t", "label": "a", "device": "moon"}',
        "unknown device 'moon', expected one of zero, four",
    ),
    "another label": (
        '{"text": "sentence number 0", "label": "b"}',
        "the text of line 1 with another label, 'b' and not 'a'",
    ),
    "deep nesting": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize(("line", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    """Each kind of broken line is refused with its number and what is wrong with it."""
    path = _file(tmp_path, *_good(20), line)
    with pytest.raises(BadData) as caught:
        read_rows(path, ("zero", "four"))
    assert "found 1 broken line; correct or delete them:" in str(caught.value)
    assert f"line 21: {words}" in str(caught.value)


def test_all_broken_lines_are_reported_at_once(tmp_path: Path) -> None:
    """Twenty problems are spelled out with their lines, the others are counted."""
    path = _file(tmp_path, *_good(3), *(["[]"] * 25))
    with pytest.raises(BadData) as caught:
        read_rows(path)
    message = str(caught.value)
    assert "found 25 broken lines" in message
    assert [f"line {n}: " in message for n in (3, 4, 23, 24)] == [False, True, True, False]
    assert message.endswith("and 5 more")


def test_good_rows_are_read_with_their_devices(tmp_path: Path) -> None:
    """Empty lines, a byte order mark, Windows line ends and repeated rows do no harm."""
    lines = [*_good(30), {"text": " spaced ", "label": " a ", "device": "zero"}, {"text": "spaced", "label": "a"}]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(map(json.dumps, lines)).encode())
    rows = read_rows(path, ("zero",))
    assert [(row.text, row.label) for row in rows[:30]] == [(g["text"], g["label"]) for g in _good(30)]
    assert [(row.text, row.label, row.device) for row in rows[30:]] == [("spaced", "a", "zero")]
    assert {row.split for row in rows} == {"train", "test"}


_TRAINING = [row for row in _good(30) if split_of(row["text"], 0.2) == "train"]
WHOLE = {
    "nothing": ([], "expected at least one row in .*, found none"),
    "one label": (
        [{"text": f"t{i}", "label": "a"} for i in range(9)],
        "expected at least two labels in .*, found only 'a'",
    ),
    "too few": (_TRAINING[:4], "expected rows for training and for the test in .*, found 4 and none for test"),
}


@pytest.mark.parametrize(("lines", "words"), WHOLE.values(), ids=WHOLE.keys())
def test_a_file_that_cannot_be_trained_on_is_refused(tmp_path: Path, lines: list[object], words: str) -> None:
    """A file whose lines are fine may still hold too little."""
    with pytest.raises(BadData, match=words):
        read_rows(_file(tmp_path, *lines))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A missing file and one in another encoding say so."""
    with pytest.raises(StorageError, match=r"expected a file of rows at .*absent.jsonl, found none that can be read"):
        read_rows(tmp_path / "absent.jsonl")
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"text": "a", "label": "b"}\n{"text": "caf\xe9", "label": "b"}\n')
    with pytest.raises(BadData, match=r"expected UTF-8 .* found byte 0xe9 on line 2; save the file as UTF-8"):
        read_rows(path)


def test_rows_are_written_as_agents_read_them(tmp_path: Path) -> None:
    """One JSON object per line with text and label only, in UTF-8, and no temporary file stays."""
    path = tmp_path / "board" / "data.jsonl"
    write_rows(path, as_lines([Row("naïve\u2028text", "a", "train", "zero"), Row("two\nlines", "b", "test")]))
    lines = path.read_bytes().decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [
        {"text": "naïve\u2028text", "label": "a"},
        {"text": "two\nlines", "label": "b"},
    ]
    assert lines[-1] == ""
    assert [p.name for p in path.parent.iterdir()] == ["data.jsonl"]
