from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from console.errors import BadData
from sim.docstrings import PACKAGES, docstring_rows, sentences
from sim.rows import Row
from sim.split import fraction_of


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The built-in data."""
    return docstring_rows()


def _library(folder: Path, extra: dict[str, str]) -> Path:
    """A small standard library: one file per package, each with a sentence of its own, and more docstrings."""
    for package in PACKAGES:
        name = re.sub(r"\W|_", "", package)
        body = f'"""The module {name} holds what {name} needs."""\n'
        (folder / f"{package}.py").write_text(body + extra.get(package, ""))
    return folder


def test_every_package_has_enough_sentences(rows: list[Row]) -> None:
    """The interpreter at hand yields what the recipe asks for: 200 for training and 80 for the test, per package."""
    count = Counter((row.label, row.split) for row in rows)
    assert {label for label, _ in count} == set(PACKAGES)
    assert min(count[package, "train"] for package in PACKAGES) >= 200
    assert min(count[package, "test"] for package in PACKAGES) >= 80


def test_sentences_are_clean_and_distinct(rows: list[Row]) -> None:
    """No sentence occurs twice, none holds a line break or a doctest, and all have 5 to 40 words."""
    assert len({row.text.lower() for row in rows}) == len(rows)
    assert all("\n" not in row.text and ">>>" not in row.text for row in rows)
    assert all(5 <= len(row.text.split()) <= 40 for row in rows)


def test_a_shared_sentence_is_dropped_and_a_repeated_one_kept_once(tmp_path: Path) -> None:
    """A sentence of two packages has no label; one that a package repeats, in whatever case, counts once."""
    shared = 'def f():\n    """This sentence is in two packages."""\n'
    twice = (
        'def g():\n    """Only email says this, but twice."""\ndef h():\n    """only Email says this, but twice."""\n'
    )
    found = docstring_rows(_library(tmp_path, {"email": shared + twice, "xml": shared}))
    texts = [row.text.lower() for row in found]
    assert "this sentence is in two packages." not in texts
    assert texts.count("only email says this, but twice.") == 1
    assert len(found) == len(PACKAGES) + 1


def test_a_package_may_be_a_folder_and_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    """Sources are found below folders too, and one that does not parse costs only its own sentences."""
    library = _library(tmp_path, {})
    (library / "http.py").unlink()
    (library / "http" / "inner").mkdir(parents=True)
    (library / "http" / "inner" / "a.py").write_text('class A:\n    """A class that speaks a protocol."""\n')
    (library / "http" / "broken.py").write_text('"""Never to be seen by anybody."""\ndef (:\n')
    assert [row.text for row in docstring_rows(library) if row.label == "http"] == ["A class that speaks a protocol."]


def test_missing_sources_are_named(tmp_path: Path) -> None:
    """A minimal Python without sources ends with what is missing and what to do."""
    library = _library(tmp_path, {})
    (library / "xml.py").unlink()
    (library / "http.py").unlink()
    with pytest.raises(BadData, match=r"found none with docstrings for http, xml; install the whole .* --data"):
        docstring_rows(library)


CASES = {
    "two sentences": (
        "It reads a whole file. It writes the same file.",
        ["It reads a whole file.", "It writes the same file."],
    ),
    "wrapped lines": ("It reads the whole\n   file from disk.", ["It reads the whole file from disk."]),
    "a doctest's paragraph": (
        "It adds two whole numbers.\n\n>>> add one to two\nthree is shown here now",
        ["It adds two whole numbers."],
    ),
    "list items": (
        "- the first of these items\n- the second of these items",
        ["the first of these items", "the second of these items"],
    ),
    "an abbreviation inside": ("It takes a name, e.g. that of a file.", ["It takes a name, e.g. that of a file."]),
    "too short": ("Return it now.", []),
    "too long": ("word " * 41, []),
    "code": ("x = f(1, 2)[3] + {4: 5} - (6 * 7) / y[8]", []),
}


@pytest.mark.parametrize(("docstring", "expected"), CASES.values(), ids=CASES.keys())
def test_docstrings_are_split_into_prose(docstring: str, expected: list[str]) -> None:
    """Sentences come out on one line each; headings, lists of words and code do not."""
    assert sentences(docstring) == expected


def test_the_split_of_a_sentence_never_changes(rows: list[Row]) -> None:
    """A golden value holds on every machine, and a sentence's split follows from the sentence alone."""
    # printf 'return the maximum of two numbers.' | sha256sum begins with 0708b1560ce6
    assert fraction_of("return the maximum of two numbers.") == int("0708b1560ce6", 16) / 2**48
    again = {row.text: row.split for row in docstring_rows()}
    assert all(again[row.text] == row.split for row in rows)
    assert all((row.split == "test") == (fraction_of(row.text.lower()) < 0.25) for row in rows)
