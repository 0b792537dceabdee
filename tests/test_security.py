"""docs/security.md says which test shows each defence; they must be there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NEEDED = (
    "stolen board", "hostile board", "hostile broker", "hostile network", "replayed update", "tampered bundle",
    "forged hub", "poisoned update", "oversized message", "slow-loris", "zip bomb", "path traversal",
)  # fmt: skip


def rows() -> dict[str, list[str]]:
    """Threat and the cells beside it."""
    table = PAGE.partition("| threat |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return {first.strip("| "): rest for first, *rest in cells}


def test_every_threat_is_there() -> None:
    """The threats that a fleet must know of have a row each."""
    assert not set(NEEDED) - rows().keys()


@pytest.mark.parametrize("threat", rows())
def test_every_row_is_shown_by_tests(threat: str) -> None:
    """A row says what stops the threat and what is left, and names tests that exist and run."""
    stops, left, tests = rows()[threat]
    assert stops
    assert left
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    assert named, f"{threat} names no test"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert name in there, f"{threat} names {file}::{name}, which is not there"
        assert "tests" in file.split("/")[0]


def test_no_other_test_is_named() -> None:
    """Whatever looks like a test on the page is in the table, where it is checked."""
    found = set(re.findall(r"tests/[\w/]+\.py::test_\w+", PAGE))
    listed = {name for *_, tests in rows().values() for name in re.findall(r"tests/[\w/]+\.py::test_\w+", tests)}
    assert found == listed
