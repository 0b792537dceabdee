"""The worker of a board takes what the plan of its bundle predicts: a real job in a process as the agent starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from console.progress import progress
from devices.memory import MIB, WORKER_BASE_BYTES, allowed_miss
from devices.plan import Board
from edge.link import environment
from export.pipeline import ExportRequest, export_model
from tests.workloads import folders
from tests.workloads.registry import WORKLOADS
from wire.keys import new_key
from wire.manifest import Segment

pytestmark = pytest.mark.heavy

BERT = next(workload for workload in WORKLOADS if workload.name == "bert")
BOARDS = {
    "one that learns over int8 weights": (Board("one", 200 * MIB, "train", "int8", 8), 1, False),
    "one that learns at a high rank": (Board("high", 300 * MIB, "train", "fp32", 64), 1, False),
    "one that serves in two segments": (Board("two", 90 * MIB, "serve", "fp32", 4), 2, False),
    "one that reads its table by rows": (Board("rows", 200 * MIB, "train", "fp32", 8), 1, True),
}
CONTEXT = 2048  # caches of 24 MiB
DECODING = {"float32": "fp32", "int8": "int8"}


@pytest.mark.parametrize("name", BOARDS)
def test_a_worker_takes_what_its_plan_predicts(name: str, tmp_path: Path) -> None:
    """Libraries, graphs, adapters with their optimiser and waiting boundaries: within 10 % above the base, or 4 MiB."""
    board, segments, out = BOARDS[name]
    source = BERT.source(tmp_path / "source")
    key = new_key("publisher", "tester")
    labels, target = ("a", "b", "c"), tmp_path / "out"
    request = ExportRequest(source, BERT.task, labels, (board,), key, target, BERT.sequence, tables_out=out)
    assert len(judged(request)) == segments


@pytest.mark.parametrize("name", DECODING)
def test_a_decoder_takes_what_its_plan_predicts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches that are fed, returned and copied, each as large as the weights."""
    monkeypatch.setattr(folders, "POSITIONS", CONTEXT)
    folders.gpt2(tmp_path / "gpt2")
    board = Board("decoder", 400 * MIB, "serve", DECODING[name], 1)
    source, key = str(tmp_path / "gpt2"), new_key("publisher", "tester")
    sizes = {"context": CONTEXT}
    request = ExportRequest(
        source, "text-generation-with-past", (), (board,), key, tmp_path / "out", None, targets="", sizes=sizes
    )
    assert len(judged(request)) == 1


def judged(request: ExportRequest) -> tuple[Segment, ...]:
    """The segments of a bundle whose worker was run and took what it should."""
    with progress("exporting", quiet=True) as bar:
        (made,) = export_model(request, bar)
    command = [sys.executable, "-m", "tests.export.worker_runs", str(made.folder)]
    done = subprocess.run(command, env=environment(1), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    peak, predicted = int(done.stdout.split()[-1]), made.manifest.plan.predicted_bytes
    assert abs(predicted - peak) <= allowed_miss(peak, WORKER_BASE_BYTES), (predicted / MIB, peak / MIB)
    return made.manifest.segments
