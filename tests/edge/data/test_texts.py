"""Texts by JSONL, CSV and plain lines: what is read, and how what is wrong is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.errors import BadData, StorageError
from edge.data import open_data, read_data
from edge.data.board import board_data, count_board
from edge.data.lines import LIMIT_BYTES
from edge.data.texts import Passage, read_passages, read_texts
from tests.edge.data.models import LABELS, manifest_of
from wire.manifest import Loss, Manifest

TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, separator=st.sampled_from(",;\t"), mark=st.booleans(), quoting=st.sampled_from([0, 1]))
def test_csv_says_what_was_written(texts: list[str], separator: str, mark: bool, quoting: int, tmp_path: Path) -> None:
    """Any text comes back from CSV as Python's writer put it: quotes, separators, line breaks, a byte order mark."""
    path = tmp_path / "data.csv"
    with path.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]  # minimal or all
        writer.writerows([["label", "more", "text"], *(["b", "x", text] for text in texts)])

    found = read_data(path, LABELS, "text", 0.0)

    assert [(row.sample, row.label) for row in found.train] == [(text, 1) for text in texts]


def test_a_row_is_kept_back_in_every_format(tmp_path: Path) -> None:
    """The same rows are on the same sides whether they lie in JSONL or in CSV."""
    rows = [(f"text {i}", LABELS[i % 3]) for i in range(100)]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (tmp_path / "it.jsonl").write_text("\n".join(lines))
    (tmp_path / "it.csv").write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]))
    manifest = manifest_of(tmp_path)

    found = open_data(tmp_path / "it.csv", manifest, 0.3)

    assert found == open_data(tmp_path / "it.jsonl", manifest, 0.3)
    assert 15 < len(found.holdout) < 45


BROKEN = {
    "no header": (b"red,a\nblue,b\n", ["line 1: expected a header with text and label, found 'red,a'"]),
    "another header": (b"sentence,label\nred,a\n", ["line 1: expected a header with text and label"]),
    "nothing at all": (b"", ["line 1: expected a header with text and label, found ''"]),
    "too many cells": (b"text,label\nred, white,a\nblue,b\n", ["line 2: expected 2 cells, found 3; put a text"]),
    "too few cells": (b"text,label\nred\n", ["line 2: expected 2 cells, found 1"]),
    "an empty text": (b'text,label\n"",a\n', ["line 2: expected 'text' with some text, found an empty cell"]),
    "an empty label": (b"text,label\nred,\n", ["line 2: expected 'label' with some text"]),
    "an unknown label": (b"text,label\nred,dgo\n", ["line 2: unknown label 'dgo', expected one of a, b, c"]),
    "a quote that stays open": (b'text,label\nred,a\n"blue,b\nred,a\n', ["line 3: expected a closing quote"]),
    "a quote in the middle": (b'text,label\n"red"x,a\nred,c\n', ["line 2: expected a record of CSV"]),
    "Latin-1": (
        "text,label\ncafé,a\nred,b\n".encode("latin-1"),
        ["line 2: expected UTF-8, found byte 0xe9 at place 4"],
    ),
    "UTF-16": ("text,label\nred,a\n".encode("utf-16"), ["line 1: expected UTF-8, found UTF-16"]),
    "two at once": (
        b'text,label\n"two\nlines",x\nred,a,b\n',
        ["line 2: unknown label 'x'", "line 4: expected 2 cells, found 3", "mend these lines"],
    ),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_csv_is_named_by_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    """Every kind of broken record is refused with the number of its first line and what was found."""
    path = tmp_path / "data.csv"
    path.write_bytes(content)

    with pytest.raises(BadData) as found:
        read_data(path, LABELS, "text", 0.0)

    for word in words:
        assert word in str(found.value)


def test_other_encodings_and_endless_lines_are_named_beside_the_rest(tmp_path: Path) -> None:
    """In JSONL a line that is not UTF-8, one without an end and an unknown label are all in one message."""
    path = tmp_path / "data.jsonl"
    good = b'{"text": "red", "label": "a"}\n'
    path.write_bytes(
        good + b'{"text": "caf\xe9"}\n' + b"x" * (2 * LIMIT_BYTES + 3) + b"\n" + good.replace(b'"a"', b'"x"')
    )

    with pytest.raises(BadData) as found:
        read_data(path, LABELS, "text", 0.0)

    for words in (
        "line 2: expected UTF-8, found byte 0xe9",
        f"line 3: expected at most {LIMIT_BYTES}",
        "line 4: unknown",
    ):
        assert words in str(found.value)


def test_a_message_is_bounded(tmp_path: Path) -> None:
    """Of a thousand broken lines twenty are spelled out and the others counted; what a terminal would act on is not."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "red", "label": "\\u001b[31m"}\n' * 1000)

    with pytest.raises(BadData) as found:
        read_data(path, LABELS, "text", 0.0)

    assert "line 20:" in str(found.value)
    assert "line 21:" not in str(found.value)
    assert "and 980 more" in str(found.value)
    assert "\x1b" not in str(found.value)


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    """JSONL as some editors save it, with a byte order mark and DOS line ends, is read as it is meant."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "red", "label": "a"}\r\n{"text": "blue", "label": "b"}\r\n')

    assert [row.sample for row in read_data(path, LABELS, "text", 0.0).train] == ["red", "blue"]


WITHOUT_LABELS = {
    "lines.txt": "one text\n\nanother, with a comma\r\n",
    "rows.jsonl": '{"text": "one text"}\n{"text": "another, with a comma", "label": "never read"}\n',
    "rows.csv": 'text\none text\n"another, with a comma"\n',
    "columns.csv": "label;text\na;one text\nb;another, with a comma\n",
}


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_texts_without_labels_come_from_every_format(tmp_path: Path, name: str) -> None:
    """Lines, JSONL and CSV with or without other columns give the same texts."""
    (tmp_path / name).write_bytes(WITHOUT_LABELS[name].encode())

    assert read_texts(tmp_path / name) == ("one text", "another, with a comma")


def test_prompts_stand_in_front_of_texts(tmp_path: Path) -> None:
    """JSONL and CSV may give a prompt to some or all texts; one that is no text is named."""
    path = tmp_path / "it.jsonl"
    path.write_text('{"prompt": "2 + 2 =", "text": "4"}\n{"text": "red"}\n')
    (tmp_path / "it.csv").write_text("text,prompt\n4,2 + 2 =\nred,\n")

    found = read_passages(path)

    assert found == (Passage("4", "2 + 2 ="), Passage("red")) == read_passages(tmp_path / "it.csv")
    path.write_text('{"prompt": 4, "text": "4"}\n')
    with pytest.raises(BadData, match="line 1: expected 'prompt' to be text, found '4'"):
        read_passages(path)


def test_texts_that_are_none_are_refused(tmp_path: Path) -> None:
    """A wrong field, an empty file, a folder and an absent file each end in a sentence."""
    path = tmp_path / "it.jsonl"
    path.write_text('{"text": 3}\n{"txt": "red"}\n')
    with pytest.raises(BadData, match=r"line 1: expected 'text' with some text, found '3'; line 2: .*mend these lines"):
        read_texts(path)
    path.write_text("\n")
    with pytest.raises(BadData, match="expected texts in"):
        read_texts(path)
    with pytest.raises(BadData, match="found a folder"):
        read_texts(tmp_path)
    with pytest.raises(StorageError, match="check the path"):
        read_texts(tmp_path / "absent.txt")


def learner(folder: Path) -> Manifest:
    """A bundle that learns to go on with texts, as far as its data is concerned."""
    return replace(manifest_of(folder), labels=(), loss=Loss("next-token", "logits"))


def write_lines(path: Path, texts: Sequence[Passage]) -> None:
    """JSONL with the prompts that there are."""
    lines = ({"text": one.text} | ({"prompt": one.prompt} if one.prompt else {}) for one in texts)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_texts_are_kept_back_by_what_they_say(tmp_path: Path) -> None:
    """Both sides together are all texts, and a larger share keeps what a smaller one kept, in another order too."""
    texts = tuple(Passage(f"text {i}", "say" if i % 2 else "") for i in range(200))
    manifest = learner(tmp_path / "it")
    write_lines(tmp_path / "one.jsonl", texts)
    write_lines(tmp_path / "two.jsonl", texts[::-1])
    small, large = open_data(tmp_path / "one.jsonl", manifest, 0.1), open_data(tmp_path / "two.jsonl", manifest, 0.3)

    assert {row.sample for row in small.all} == set(texts)
    assert 0 < len(small.holdout) < len(large.holdout)
    assert {row.sample for row in small.holdout} <= {row.sample for row in large.holdout}


def test_a_running_board_takes_texts_without_labels(tmp_path: Path) -> None:
    """A file or a folder of lines, JSONL and CSV gives its texts, counted as they are read; labels are passed over."""
    manifest, folder = learner(tmp_path / "it"), tmp_path / "folder"
    folder.mkdir()
    for name, content in WITHOUT_LABELS.items():
        (folder / name).write_bytes(content.encode())
        board = board_data(folder / name, manifest, 0.0)
        assert [row.sample for row in board.train] == [Passage("one text"), Passage("another, with a comma")]
        assert count_board(folder / name, manifest).rows == 2

    assert len(board_data(folder, manifest, 0.0).train) == count_board(folder, manifest).rows == 8


def test_of_a_folder_of_texts_what_is_broken_is_left_out_and_told(tmp_path: Path) -> None:
    """A file with a broken line is a problem that names it; the others count, and a file alone must be right."""
    manifest, folder = learner(tmp_path / "it"), tmp_path / "folder"
    folder.mkdir()
    (folder / "good.txt").write_text("one text\n")
    (folder / "bad.jsonl").write_text('{"text": "red"}\n{"text": 3}\n')
    (folder / "bad.npz").write_bytes(b"")

    found = count_board(folder, manifest)

    assert (found.rows, found.problems_in_all) == (1, 2)
    assert found.problems == (
        "bad.jsonl: line 2: expected 'text' with some text, found '3'",
        "bad.npz: expected .jsonl, .csv, .tsv, .txt, found .npz",
    )
    assert [row.sample.text for row in board_data(folder, manifest, 0.0).train] == ["one text"]
    with pytest.raises(BadData, match=r"line 2: expected 'text' with some text, found '3'; mend these lines"):
        count_board(folder / "bad.jsonl", manifest)
    with pytest.raises(BadData, match="expected a file of texts at .*, found arrays"):
        count_board(folder / "bad.npz", manifest)


def test_corrected_labels_are_no_rows_of_a_model_without_labels(tmp_path: Path) -> None:
    """What was corrected for another bundle on this board stays where it is, and is not learned from."""
    (tmp_path / "it.txt").write_text("red\nblue\n")
    corrections = tmp_path / "feedback"
    corrections.mkdir()
    (corrections / "rows.jsonl").write_text('{"text": "red", "label": "a"}\n')

    assert count_board(tmp_path / "it.txt", learner(tmp_path / "b"), corrections).rows == 2


def test_data_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    """Arrays for a model of texts, and lines without labels for one of classes, say what to do instead."""
    for name, words in (
        ("it.npz", "found arrays"),
        ("it.txt", "write CSV or JSONL with 'label'"),
    ):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(BadData, match=words):
            read_data(tmp_path / name, LABELS, "text", 0.0)
