"""all-MiniLM-L6-v2 with its real weights: budgets, predictions, and every graph under two runtimes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.progress import progress
from devices.memory import IMPORTS, MIB
from devices.plan import Board
from export.chain import Chain, Graph, Link, Values, links_of
from export.feeds import targets
from export.pipeline import ExportedBundle, ExportRequest, export_model
from export.remeasure import runtime_offset
from export.report.account import accounts
from export.write import read_golden
from tests.conftest import ROOT
from tests.export.oracle import Oracle
from tests.export.runtime import inline
from wire.bundle import open_bundle
from wire.keys import new_key
from wire.manifest import Options
from wire.record import plain

pytestmark = pytest.mark.heavy

LABELS = tuple("abcdefghi")
BOARDS = (
    Board("whole", 216 * MIB, "train", "int8", 2),
    Board("split", 86 * MIB, "train", "int8", 2),
    Board("exact", 1024 * MIB, "train", "fp32", 8),
    Board("served", 216 * MIB, "serve", "int8", 2),
)
NAMES = [board.name for board in BOARDS]
BAR = 1e-5


@pytest.fixture(scope="module")
def exported(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportedBundle]:
    """One export for four boards."""
    out, key = tmp_path_factory.mktemp("minilm"), new_key("publisher", "tester")
    request = ExportRequest(str(minilm_folder), "text-classification", LABELS, BOARDS, key, out, sequence=32)
    with progress("exporting", quiet=True) as bar:
        return dict(zip(NAMES, export_model(request, bar), strict=True))


def values_of(bundle: ExportedBundle) -> tuple[list[Link], Values]:
    """The links of a bundle and all values of a golden run, forward and back."""
    opened = open_bundle(bundle.folder, None)
    links = links_of(opened)
    fed, _ = read_golden(opened.path(opened.manifest.golden.file))
    fed |= targets(opened.manifest.plan.micro_batch, len(LABELS), seed=1)
    chain = Chain(links)
    return links, chain.backward(chain.forward(fed))


@pytest.mark.parametrize("name", NAMES)
def test_within_the_budget(name: str, exported: dict[str, ExportedBundle]) -> None:
    """Predicted and measured peaks of every board are within its budget; the small one has several segments."""
    bundle = exported[name]
    plan = bundle.manifest.plan
    assert plan.predicted_bytes <= plan.budget_bytes
    assert bundle.measured_bytes <= plan.budget_bytes
    assert (len(bundle.manifest.segments) > 1) == (name == "split")
    kinds = {graph.kind for segment in bundle.manifest.segments for graph in segment.graphs}
    assert kinds - {"serve"} == ({"forward"} if plan.mode == "serve" else {"forward", "backward"})


@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_is_what_was_settled(name: str, exported: dict[str, ExportedBundle]) -> None:
    """From its manifest alone a bundle's worker is told to take what the exporter held against the budget."""
    (account,) = accounts([open_bundle(exported[name].folder, None)])
    assert account.memory.measured_bytes == exported[name].measured_bytes
    assert sum(account.memory.parts.values()) == exported[name].manifest.plan.predicted_bytes


@pytest.mark.parametrize("name", NAMES)
def test_predictions_hold(name: str, exported: dict[str, ExportedBundle], tmp_path: Path) -> None:
    """Predicted and measured peak agree within the larger of 10 % of what lies above the base and 4 MiB."""
    graphs = [graph for segment in exported[name].manifest.segments for graph in segment.graphs]
    here = runtime_offset(tmp_path, "text")
    for memory in [graph.memory for graph in graphs]:
        assert memory.measured_bytes is not None
        assert memory.base_bytes is not None
        above = memory.measured_bytes - memory.base_bytes
        if above >= 40 * MIB:
            assert abs(memory.predicted_bytes + here - memory.measured_bytes) <= max(0.1 * above, 4 * MIB)


@pytest.mark.parametrize("name", NAMES)
def test_every_graph_under_both_runtimes(
    name: str, exported: dict[str, ExportedBundle], floor_python: Path, tmp_path: Path
) -> None:
    """Each graph, with its manifest's session options, equals numpy on the newest and on the oldest runtime.

    Within 1e-5 of max(1, largest value); gradients within 1e-5 of the largest of them.
    """
    links, values = values_of(exported[name])
    for link in links:
        for _, path, options in link.graphs():
            graph = Graph(path, options)
            fed = graph.feeds(values)
            expected = Oracle(inline(ir.load(path)))(fed)
            assert expected.keys() == set(graph.outputs)
            close(graph(fed), expected, path.name)
            close(on_the_floor(floor_python, path, options, fed, tmp_path), expected, f"{path.name} on the floor")


def on_the_floor(python: Path, graph: Path, options: Options, fed: Values, folder: Path) -> Values:
    """The outputs of a graph under another interpreter's onnxruntime."""
    (folder / "options.json").write_text(json.dumps(plain(options)))
    arrays: dict[str, np.ndarray] = dict(fed)
    np.savez(folder / "feeds.npz", **arrays)  # type: ignore[arg-type]  # the stub takes the names for its own option
    command = [str(python), "-m", "export.peak", str(graph), "--options", str(folder / "options.json")]
    command += [
        "--feeds",
        str(folder / "feeds.npz"),
        "--keep",
        str(folder / "outputs.npz"),
        "--imports",
        *IMPORTS["text"],
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    with np.load(folder / "outputs.npz") as file:
        return {name: file[name] for name in file.files}


def close(got: Values, expected: Values, what: str) -> None:
    """Values by the bar of a chain, gradients by the largest of them."""
    gradients = [np.abs(value).max(initial=0) for name, value in expected.items() if name.startswith("grad.")]
    for name, value in expected.items():
        scale = max(gradients) if name.startswith("grad.") else max(1.0, np.abs(value).max(initial=0))
        error = np.abs(got[name].astype(np.float64) - value).max(initial=0) / scale
        assert error <= BAR, (what, name, error)
