"""No library reports to its maker: nothing that one would is left behind."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.private import SILENT
from edge.link import environment
from tests.conftest import ROOT

pytest.importorskip("onnxruntime")
COMMAND = "import edgequilt\nedgequilt.main(['--version'])\n"


def left(before: str, home: Path, **more: str) -> list[str]:
    """Files that loading onnxruntime leaves in an empty home, without the settings of whoever runs the tests."""
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    code = f"{before}import onnxruntime\n"
    surroundings = {**kept, "HOME": str(home), **more}
    subprocess.run(
        [sys.executable, "-c", code], env=surroundings, cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL
    )
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_nothing_is_left_for_a_maker(tmp_path: Path) -> None:
    """After our command, and in the environment of a worker; without either, a new onnxruntime numbers the machine."""
    assert left(COMMAND, tmp_path / "command") == []
    silent = {name: environment(1)[name] for name in SILENT}
    assert left("", tmp_path / "worker", **silent) == []
    version = tuple(map(int, importlib.metadata.version("onnxruntime").split(".")[:2]))
    assert bool(left("", tmp_path / "plain")) == (version >= (1, 29))


def test_who_wants_to_report_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set already stays."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert environment(1)["ORT_DISABLE_TELEMETRY"] == "0"
