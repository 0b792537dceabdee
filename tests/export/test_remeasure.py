"""`edgequilt verify` measures what a bundle's graphs take, and fails where the manifest predicts something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from console.errors import VerificationError
from console.progress import progress
from devices.memory import JUDGED_FROM_BYTES, MIB, allowed_miss, base_bytes
from devices.plan import Board
from export.chain import PLAIN
from export.cli import verify
from export.measure import Peak
from export.pipeline import ExportRequest, export_model
from export.remeasure import Remeasured, refuse_misses
from export.write import seal_bundle
from tests.export.graphs import Builder
from wire.bundle import open_bundle
from wire.keys import PrivateKey, new_key, write_key

WIDTH, LAYERS = 1024, 10  # 40 MiB of weights


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    """Signs the bundles."""
    return new_key("publisher", "tester")


@pytest.fixture(scope="module")
def trust(key: PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file that `--trust` takes."""
    return str(write_key(key, tmp_path_factory.mktemp("keys"))[1])


@pytest.fixture(scope="module")
def bundle(key: PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of products, large enough to be judged."""
    folder = tmp_path_factory.mktemp("wide")
    b = Builder(5)
    value = b.input("x", ["batch", WIDTH])
    for i in range(LAYERS):
        value = b.op("MatMul", value, b.weight(f"w{i}", WIDTH, WIDTH), shape=["batch", WIDTH], name=f"layer{i}")
    ir.save(b.model(y=value), folder / "wide.onnx")
    board = Board("board", 1 << 30, "serve", "fp32")
    asked = ExportRequest(str(folder / "wide.onnx"), "", (), (board,), key, folder / "out", targets="")
    with progress("exporting", quiet=True) as bar:
        return export_model(asked, bar)[0].folder


def test_a_bundle_that_takes_what_it_says_passes(bundle: Path, trust: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each graph in words and as JSON; mapped weights are in PSS and are not anonymous; --no-memory measures none."""
    assert verify([str(bundle), "--trust", trust]) == 0
    words = capsys.readouterr().out
    assert "segment0.forward.onnx" in words
    assert "within the bar" in words
    assert verify([str(bundle), "--trust", trust, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["memory"]
    assert found["judged"]
    assert not found["missed"]
    weights = 4 * LAYERS * WIDTH * WIDTH
    assert weights < found["measured_bytes"] < weights + 16 * MIB
    assert found["anonymous_bytes"] < found["measured_bytes"] - 0.9 * weights
    assert abs(found["pss_bytes"] - found["measured_bytes"]) < 8 * MIB
    assert verify([str(bundle), "--trust", trust, "--json", "--no-memory"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"] == []


@pytest.mark.parametrize("share", [0.75, 1.25])
def test_a_miss_fails(share: float, bundle: Path, key: PrivateKey, trust: str, tmp_path: Path) -> None:
    """A manifest that predicts a quarter less or more than is measured is refused by its graph's name."""
    folder = tmp_path / "wrong"
    folder.mkdir()
    for path in bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = open_bundle(bundle, None).manifest
    (segment,) = manifest.segments
    (graph,) = segment.graphs
    base = base_bytes("tensors")
    above = int(share * (graph.memory.predicted_bytes - base))
    graph = replace(graph, memory=replace(graph.memory, predicted_bytes=base + above))
    seal_bundle(folder, replace(manifest, segments=(replace(segment, graphs=(graph,)),)), key)
    with pytest.raises(VerificationError, match=r"segment0\.forward\.onnx takes .* above the runtime, predicted"):
        verify([str(folder), "--trust", trust])


def found(predicted_mib: float, measured_mib: float) -> Remeasured:
    """Figures above the runtime."""
    base = 50 * MIB
    return Remeasured("g.onnx", int(predicted_mib * MIB), Peak(PLAIN, base + int(measured_mib * MIB), base, 0, 0, 1.0))


VERDICTS = {
    "within 4 MiB": (found(44, 40), False),
    "more than 4 MiB": (found(44.1, 40), True),
    "within 10 %": (found(90, 100), False),
    "less than 10 % below": (found(89.9, 100), True),
    "small": (found(80, 39), False),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_bar(case: str) -> None:
    """10 % of what lies above the base or 4 MiB, whichever is more, from 40 MiB on."""
    one, missed = VERDICTS[case]
    assert (JUDGED_FROM_BYTES, allowed_miss(10 * MIB, 10 * MIB)) == (40 * MIB, 4 * MIB)
    assert one.missed == missed
    if missed:
        with pytest.raises(VerificationError, match=r"g\.onnx takes"):
            refuse_misses([found(40, 40), one])
    else:
        refuse_misses([one])
