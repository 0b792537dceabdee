"""Seeds, the oldest runtime, and a header line that says what these tests ran with."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.private import report_nothing
from tests.chaos.books import BOOKS, told

report_nothing()  # before any test loads onnxruntime
ROOT = Path(__file__).resolve().parent.parent
REPORTED = ("numpy", "onnxruntime", "torch", "onnx", "onnx-ir", "transformers", "paho-mqtt", "amqtt")
SEED = 20_261_120
LONG_FIRST = ("demo", "boot", "chaos", "fleet", "heavy")  # marks, those whose tests take longest first


def _with_torch() -> list[str]:
    """Test files that import torch, or one that does: without their oracle there is nothing to compare with."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    found: set[Path] = set()
    names = ["torch"]
    while names:
        pattern = re.compile(rf"^(?:import|from) (?:{'|'.join(map(re.escape, names))})\b", re.MULTILINE)
        more = {path for path, text in texts.items() if path not in found and pattern.search(text)}
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in more]
        found |= more
    return [str(path) for path in found]


# what boards install has no torch (`make light`)
collect_ignore = [] if find_spec("torch") else _with_torch()


def pytest_report_header() -> str:
    """The versions that decide most of what these tests see."""
    return "with " + ", ".join(f"{name} {_version(name)}" for name in REPORTED)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, files with long tests go first: one that begins last would leave the other processes idle.

    The processes of pytest-xdist take whole files in this order (`--dist loadfile --no-loadscope-reorder`).
    """
    if not hasattr(config, "workerinput"):
        return
    ranks: dict[Path, int] = {}
    for item in items:
        rank = next((n for n, mark in enumerate(LONG_FIRST) if item.get_closest_marker(mark)), len(LONG_FIRST))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands the books of its stories to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["books"] = BOOKS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """They arrive here."""
    BOOKS.update(getattr(node, "workeroutput", {}).get("books", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The closing table of chaos."""
    if BOOKS:
        terminalreporter.section("chaos: updates seen in outboxes, and what became of them")
        for line in told(BOOKS):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state; torch's too, but only where a test has loaded it."""
    random.seed(SEED)
    # libraries under test may use the global state, whatever we do ourselves
    np.random.seed(SEED)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="session")
def floor_python() -> Path:
    """An interpreter with the oldest onnxruntime that boards have; `make floor` builds it."""
    named = os.environ.get("EDGEQUILT_FLOOR_PYTHON")
    python = Path(named) if named else ROOT / ".venv-floor" / "bin" / "python"
    if not python.exists():
        if named:
            pytest.fail(f"EDGEQUILT_FLOOR_PYTHON names {named}, which is not there")
        pytest.skip("no .venv-floor; run make floor")
    return python
