"""The door for data files: every way of writing items, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import BadData, EdgequiltError, StorageError, UsageError
from export.study.data import read_items
from tests.export.fuzz import mutated
from tests.export.study.studied import arrays

READ: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "a.txt": ("one\n\n  two  \r\nthree\x0cfour", ("one", "two", "three\x0cfour"), ()),
    "a.jsonl": ('{"text": "one", "label": "x"}\n\n{"text": "two", "label": 3}\n', ("one", "two"), ("x", "3")),
    "b.jsonl": ('\ufeff{"text": "one"}\n{"text": "two", "label": null}', ("one", "two"), ()),
    "a.csv": ('label,text\nx,"a, ""b""\nc"\ny,two\n', ('a, "b"\nc', "two"), ("x", "y")),
    "a.tsv": ("text\nsaid \n", ("said ",), ()),
}


@pytest.mark.parametrize("name", READ)
def test_items_are_what_was_written(name: str, tmp_path: Path) -> None:
    """Texts and labels in order; blank lines, a byte order mark and quoted line ends are no texts."""
    source, texts, labels = READ[name]
    (tmp_path / name).write_bytes(source.encode())
    found = read_items(tmp_path / name)
    assert (found.texts, found.labels, len(found), found.total) == (texts, labels, len(texts), len(texts))


WRONG: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("a.txt", b" \n", "at least one text in .*, found none; add some lines"),
    "no table": ("a.csv", b"", r"line 1: a header without a column 'text' or 'image' \(empty\)"),
    "a table of other things": ("a.csv", b"x,y\n1,2\n", r"line 1: a header without a column .* \(x, y\)"),
    "a picture among texts": ("a.jsonl", b'{"text": "a"}\n{"image": "b.png"}\n', "line 2: a picture among texts"),
    "both": ("a.csv", b"text,image\na,b\n", "line 2: both a text and a picture"),
    "no path": ("a.jsonl", b'{"image": "a\\u0000b"}', "line 1: no path"),
    "a header alone": ("a.csv", b"text\n", "found none"),
    "ragged": ("a.csv", b"text,label\na,b,c\nd,e\nf\n", "line 2: 3 columns instead of 2; line 4: 1 columns instead"),
    "bytes": ("a.txt", b"\xff\xfe", "UTF-8 text .* found other bytes"),
    "several": (
        "a.jsonl",
        b'[1]\nnot\n{"text": 3}\n{"text": "a", "label": 1.5}\n{"text": "b", "label": true}\n',
        'object; line 2: not JSON; line 3: no text "text" or path "image"; line 4: a label .*; line 5: a label',
    ),
    "half a character": ("a.jsonl", b'{"text": "\\ud800"}', "line 1: half a character"),
    "some labels": (
        "a.jsonl",
        b'{"text": "a", "label": "x"}\n{"text": "b"}\n{"text": "c"}',
        "line 2: no label; line 3",
    ),
    "deep": ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
    "no arrays": ("a.npz", b"PK nothing", "expected an .npz file"),
}


@pytest.mark.parametrize(("name", "source", "words"), WRONG.values(), ids=WRONG.keys())
def test_every_problem_is_named_with_its_line(name: str, source: bytes, words: str, tmp_path: Path) -> None:
    """One sentence for all that is wrong."""
    (tmp_path / name).write_bytes(source)
    with pytest.raises(BadData, match=words):
        read_items(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.parquet", UsageError), ("a.txt", StorageError), ("a.npz", StorageError)]
)
def test_files_that_are_none(name: str, kind: type[EdgequiltError], tmp_path: Path) -> None:
    """An ending that is not known, and a file that is not there."""
    with pytest.raises(kind, match="expected"):
        read_items(tmp_path / name)


def test_arrays_have_items_and_labels(tmp_path: Path) -> None:
    """Arrays by name, labels as texts."""
    found = read_items(arrays(tmp_path / "a.npz", 3, labels=np.array([2, 0, 1])))
    assert (list(found.arrays), found.labels, found.places[2]) == (["x"], ("2", "0", "1"), "item 2")


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """Unequal numbers of items, labels of another number, NaN: all of them in one sentence."""
    bad = np.ones((3, 2), np.float32)
    bad[1, 1] = np.nan
    np.savez(tmp_path / "a.npz", a=bad, b=np.zeros((2, 2)), c=np.float32(1), labels=np.zeros((3, 1)))
    words = r"b of 2 items; c of no items; labels of shape \[3, 1\] and type float64; a with NaN or infinity in item 1"
    with pytest.raises(BadData, match=words):
        read_items(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", labels=np.zeros(3, np.int64))
    with pytest.raises(BadData, match="no array of an input"):
        read_items(tmp_path / "b.npz")


def test_pictures_lie_beside_the_file(tmp_path: Path) -> None:
    """Paths are seen from the file, as in a board's own data."""
    (tmp_path / "a.jsonl").write_text('{"image": "p/1.png", "label": "x"}\n{"image": "/p/2.png", "label": "y"}')
    found = read_items(tmp_path / "a.jsonl")
    assert (found.pictures, found.labels) == ((tmp_path / "p" / "1.png", Path("/p/2.png")), ("x", "y"))
    assert found.spread(1).pictures == (tmp_path / "p" / "1.png",)


def test_a_limit_takes_items_from_everywhere(tmp_path: Path) -> None:
    """Evenly, in order, each once, with their labels; a limit above their number takes all."""
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(f'{{"text": "t{i}", "label": "l{i}"}}' for i in range(10)))
    found = read_items(path).spread(4)
    assert found.texts == ("t0", "t2", "t5", "t7")
    assert found.labels == ("l0", "l2", "l5", "l7")
    assert (found.places[1], len(found), found.total) == ("line 3", 4, 10)
    assert read_items(path).spread(11).texts == read_items(path).texts
    assert read_items(path).beside(4, 3).texts == ("t1", "t4", "t8")
    assert read_items(path).beside(10, 2).texts == ("t0", "t5")
    taken = read_items(arrays(tmp_path / "a.npz", 6)).spread(3)
    np.testing.assert_array_equal(taken.arrays["x"], read_items(tmp_path / "a.npz").arrays["x"][[0, 2, 4]])


VALID = {name: source.encode() for name, (source, _, _) in READ.items()}
PIECES = st.text(st.sampled_from('{}[]",:\\ud8text label\n\r\t\x00"é\u2028'), max_size=60).map(str.encode)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.sampled_from(sorted(VALID)), st.integers(0, 1 << 30), PIECES | st.none())
def test_any_bytes_are_items_or_a_sentence(name: str, seed: int, other: bytes | None) -> None:
    """Changed files and files of odd characters: as many texts as places, all of them text, or one of our errors."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(mutated(VALID[name], seed) if other is None else other)
        try:
            found = read_items(path)
        except EdgequiltError:
            return
        assert len(found.texts) == len(found.places) == found.total > 0
        assert len(found.labels) in (0, len(found))
        assert all(text.strip() and text.encode() for text in (*found.texts, *found.labels))
