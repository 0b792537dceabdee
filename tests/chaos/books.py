"""What became of the updates of every story: judged where the story ends, told once at the end of the whole run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

COLUMNS = ("updates", "receipted", "counted", "refused", "repeats", "lost", "twice", "seconds")
BOOKS: dict[str, dict[str, Any]] = {}


def judge(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Nothing is lost, nothing counts twice, nothing counts that no agent knows of."""
    BOOKS[name.removeprefix("test_").replace("_", " ")] = found
    assert (found["lost"], found["twice"], found["unknown"], found["kept"]) == (0, 0, 0, True), found
    return found


def told(books: dict[str, dict[str, Any]]) -> list[str]:
    """The closing table; EDGEQUILT_CHAOS_JSON=FILE writes it, too."""
    width = max(map(len, books))
    total = {c: round(sum(found[c] for found in books.values()), 1) for c in COLUMNS}
    if os.environ.get("EDGEQUILT_CHAOS_JSON"):
        Path(os.environ["EDGEQUILT_CHAOS_JSON"]).write_text(json.dumps({"stories": books, "all": total}, indent=1))
    rows = {**books, "all": total}.items()
    head = f"{'':{width}}  " + "  ".join(f"{c:>9}" for c in COLUMNS)
    return [head, *(f"{name:{width}}  " + "  ".join(f"{found[c]:>9}" for c in COLUMNS) for name, found in rows)]
