"""Real text that is on every machine: sentences of the standard library's docstrings, labelled by package.

Nothing is downloaded and nothing is imported: the `.py` sources below `sysconfig`'s `stdlib` folder
are parsed with `ast`.  Counts per package differ by about 10 % between Python versions; the split of a
sentence never does, since it depends on the sentence alone.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from console.errors import BadData
from sim.rows import Row
from sim.split import split_of

# In every CPython and in Debian's python3, and at least 300 sentences each (tkinter, idlelib and lib2to3
# are left out because distributions package them separately or have dropped them).
PACKAGES = ("_pydecimal", "asyncio", "email", "http", "importlib", "logging", "typing", "unittest", "xml")
MIN_WORDS, MAX_WORDS = 5, 40  # shorter ones are headings, longer ones are unpunctuated lists
MIN_LETTERS_FRACTION = 0.7  # below it: code, tables and signatures
TEST_FRACTION = 0.25  # the smallest package has about 300 sentences: 75 of them test, 225 train

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z\"'(\[`*])")
_PARAGRAPH = re.compile(r"\n\s*\n")
_BULLET = re.compile(r"^\s*(?:[-*+o]|\d+[.)])\s+")


def docstring_rows(stdlib: Path | None = None, test_fraction: float = TEST_FRACTION) -> list[Row]:
    """Return the distinct sentences of the nine packages as rows, ordered by package and text.

    A sentence that occurs in more than one package is dropped, since its label would be a coin toss.

    Raises:
        BadData: a package's sources are missing, or hold no sentence (a minimal or zipped Python).
    """
    folder = stdlib or Path(sysconfig.get_paths()["stdlib"])
    per_package = {package: _sentences_of(folder, package) for package in PACKAGES}
    missing = [package for package, found in per_package.items() if not found]
    if missing:
        raise BadData(
            f"expected the sources of Python's standard library in {folder}, found none with docstrings for "
            f"{', '.join(missing)}; install the whole library (on Debian: apt-get install python3) or give your own "
            "rows with --data FILE.jsonl"
        )
    owners: dict[str, int] = {}
    for found in per_package.values():
        for key in found:
            owners[key] = owners.get(key, 0) + 1
    return [
        Row(text, package, split_of(key, test_fraction))
        for package, found in per_package.items()
        for key, text in sorted(found.items())
        if owners[key] == 1
    ]


def sentences(docstring: str) -> list[str]:
    r"""Split one docstring into cleaned sentences of 5 to 40 words; paragraphs with `>>>` are dropped.

    >>> sentences("Return the loop's time as a float. See also.\n\n>>> loop.time() is not none at all")
    ["Return the loop's time as a float."]
    """
    kept: list[str] = []
    for paragraph in _PARAGRAPH.split(docstring):
        if ">>>" in paragraph:
            continue
        for item in _items(paragraph):
            kept.extend(s for s in (part.strip() for part in _SENTENCE_END.split(item)) if _is_prose(s))
    return kept


def _items(paragraph: str) -> Iterator[str]:
    """Yield a paragraph's list items, each on one line; a paragraph without a list is one item."""
    gathered: list[str] = []
    for line in paragraph.splitlines():
        if _BULLET.match(line) and gathered:
            yield " ".join(" ".join(gathered).split())
            gathered = []
        gathered.append(_BULLET.sub("", line))
    yield " ".join(" ".join(gathered).split())


def _is_prose(sentence: str) -> bool:
    """Say whether a sentence has the length and the letters of prose."""
    if not MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
        return False
    return sum(c.isalpha() or c == " " for c in sentence) >= MIN_LETTERS_FRACTION * len(sentence)


def _sentences_of(stdlib: Path, package: str) -> dict[str, str]:
    """Return {lower-case sentence: sentence} over all sources of one top-level package or module."""
    found: dict[str, str] = {}
    for path in [stdlib / f"{package}.py", *sorted((stdlib / package).rglob("*.py"))]:
        for docstring in _docstrings(path):
            for sentence in sentences(docstring):
                found.setdefault(sentence.lower(), sentence)
    return found


def _docstrings(path: Path) -> Iterator[str]:
    """Yield a source file's docstrings; a file that is absent or does not parse has none."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the library's own docstrings
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
