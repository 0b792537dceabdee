"""Classes from files: their order, and every line that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.errors import BadData, EdgequiltError, UsageError
from export.labels import read_labels


def written(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_keep_their_order(tmp_path: Path) -> None:
    """One label per line in the order of the logits; blank lines do not count."""
    labels = written(tmp_path, "labels.txt", "zebra\n\nant \ncow\n")
    assert read_labels(labels, None) == ("zebra", "ant", "cow")


def test_labels_of_rows_are_sorted(tmp_path: Path) -> None:
    """Distinct labels of the rows, sorted."""
    data = written(tmp_path, "data.jsonl", '{"text": "x", "label": "b"}\n{"label": "a"}\n{"label": "b"}\n')
    assert read_labels(None, data) == ("a", "b")


REFUSED: dict[str, tuple[str | None, str | None, type[EdgequiltError], str]] = {
    "nothing given": (None, None, UsageError, "--labels FILE .* or --data"),
    "one label": ("a\n", None, BadData, "at least two labels in .*, found 1"),
    "twice": ("a\nb\na\n", None, BadData, "line 3: 'a' again"),
    "unknown label": ("a\nb\n", '{"label": "a"}\n{"label": "c"}\n', BadData, "unknown ones .line 2: 'c'.; add them"),
    "broken line": (None, '{"label": "a"}\n{label: b}\n{"text": "t"}\n', BadData, "on line 2; line 3; mend"),
    "label that is no text": (None, '{"label": 1}\n{"label": "b"}\n', BadData, "on line 1; mend"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    """What is wrong is said with its line, and what to do."""
    labels, data, error, words = REFUSED[case]
    paths = [
        None if text is None else written(tmp_path, name, text) for name, text in (("l.txt", labels), ("d.jsonl", data))
    ]
    with pytest.raises(error, match=words):
        read_labels(*paths)
