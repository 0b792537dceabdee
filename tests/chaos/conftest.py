"""One farm per story, its books at the end, and one table of all of them (EDGEQUILT_CHAOS_JSON=FILE writes it, too)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.farm import Farm

BOOKS: dict[str, dict[str, Any]] = {}
COLUMNS = ("updates", "receipted", "counted", "refused", "repeats", "lost", "twice", "seconds")
MakeFarm = Callable[..., Farm]


@pytest.fixture
def make_farm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeFarm]:
    """A farm whose agents are all online; its books must be right when the story is over."""
    made: list[Farm] = []

    def make(**places: Any) -> Farm:
        farm = Farm(tmp_path, seed=len(request.node.name), **places)
        made.append(farm)
        farm.all_online()
        return farm

    try:
        yield make
    finally:
        for farm in made:
            farm.close()


def judge(name: str, farm: Farm) -> dict[str, Any]:
    """Nothing is lost, nothing counts twice, nothing counts that no agent knows of."""
    found = BOOKS[name.removeprefix("test_").replace("_", " ")] = farm.books()
    assert (found["lost"], found["twice"], found["unknown"], found["kept"]) == (0, 0, 0, True), found
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The closing table."""
    if not BOOKS:
        return
    terminalreporter.section("chaos: updates seen in outboxes, and what became of them")
    width = max(map(len, BOOKS))
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(f"{c:>9}" for c in COLUMNS))
    total = {c: round(sum(found[c] for found in BOOKS.values()), 1) for c in COLUMNS}
    for name, found in {**BOOKS, "all": total}.items():
        terminalreporter.write_line(f"{name:{width}}  " + "  ".join(f"{found[c]:>9}" for c in COLUMNS))
    if os.environ.get("EDGEQUILT_CHAOS_JSON"):
        Path(os.environ["EDGEQUILT_CHAOS_JSON"]).write_text(json.dumps({"stories": BOOKS, "all": total}, indent=1))
