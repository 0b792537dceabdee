"""What graphs share, and that they run under two runtimes, as the benches measure it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from bench.bundle_feeds import feeds_of
from bench.graphs import difference, shown
from bench.sharing import pairs, regions, summary, together
from console.table import MIB
from export.chain import PLAIN
from export.cli import export
from export.write import write_graphs
from tests.export import models
from tests.export.test_pipeline import command
from wire.bundle import Bundle, open_bundle

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

WIDE = 2048  # a matrix of 16 MiB


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two buckets of a tiny BERT in int4, to train."""
    out = tmp_path_factory.mktemp("graphs") / "out"
    folder = models.tiny_bert(tmp_path_factory.mktemp("bert"))
    more = ["--micro-batches", "4,1", "--quant", "int4", "--budget", "small=200MiB", "--device", "small", "--json"]
    assert export(command(folder, out, *more, "--no-serve-graph")) == 0
    return open_bundle(out / "small", None)


def product(rows: int, weight: np.ndarray) -> ir.Model:
    """x W for some rows."""
    x, w = ir.val("x", ir.DataType.FLOAT, [rows, WIDE]), ir.val("w", const_value=ir.tensor(weight, name="w"))
    y = ir.val("y", ir.DataType.FLOAT, [rows, WIDE])
    node = ir.node("MatMul", [x, w], outputs=[y])
    graph = ir.Graph([x], [y], nodes=[node], initializers=[w], opset_imports={"": 21}, name="product")
    return ir.Model(graph, ir_version=10)


def test_one_file_of_weights_is_counted_once(tmp_path: Path) -> None:
    """A second session over the same file takes next to no memory; over a copy of the file it takes the file again."""
    weight = np.random.default_rng(0).standard_normal((WIDE, WIDE)).astype(np.float32)
    taken = {}
    for name, files in {"one": ("w.bin", "w.bin"), "two": ("w.bin", "v.bin")}.items():
        folder = tmp_path / name
        folder.mkdir()
        products = {"a": product(1, weight), "b": product(4, weight)}
        if len(set(files)) == 1:
            write_graphs(products, folder, "w.bin")
        else:
            for (key, model), file in zip(products.items(), files, strict=True):
                write_graphs({key: model}, folder, file)
        graphs = [
            (folder / f"{key}.onnx", PLAIN, {"x": np.ones((n, WIDE), np.float32)}) for key, n in (("a", 1), ("b", 4))
        ]
        alone = [together([graph], tmp_path) for graph in graphs]
        taken[name] = together(graphs, tmp_path).pss - max(one.pss for one in alone)
        assert (regions(graphs[0][0]) == regions(graphs[1][0])) == (name == "one")
    assert taken["one"] < 6 * MIB
    assert taken["two"] > 14 * MIB


def test_graphs_of_two_buckets_read_the_same_weights(bundle: Bundle) -> None:
    """Every pair is there once, and the same kind of graph reads the same bytes in both buckets."""
    found = pairs(bundle)
    assert len(found) == 6
    assert all(min(pair.graph_files) > 0 and min(pair.weights) > 0 for pair in found)
    for pair in found:
        first, second = (name.split()[0] for name in pair.graphs)
        if first == second:
            assert pair.both_read == max(pair.weights)
    assert {row[0] for row in summary(found)} >= {
        "forward and forward, two buckets",
        "forward and backward, one bucket",
    }


def test_every_graph_gives_the_same_under_both_runtimes(bundle: Bundle, floor_python: Path) -> None:
    """Outputs and gradients of the oldest and of this runtime agree, and both have a peak."""
    found = shown(bundle, (str(floor_python), sys.executable))
    assert [(one.graph, one.bucket) for one in found] == [
        (f"segment0.{kind}", bucket) for bucket in ("b4s9", "b1s9") for kind in ("forward", "backward")
    ]
    assert all(one.difference <= 1e-5 for one in found)
    assert all(min(one.peaks_bytes) > 0 for one in found)


def test_what_is_fed_moves_every_gradient(bundle: Bundle) -> None:
    """No graph is fed zeros only, and a gradient that differs shows, relative to the largest one."""
    fed = feeds_of(bundle)
    assert set(fed) == {graph.file for segment in bundle.manifest.segments for graph in segment.graphs}
    floats = [array for values in fed.values() for array in values.values() if array.dtype.kind == "f"]
    assert all(np.any(array) for array in floats)
    exact = {"grad.a": np.array([4.0]), "grad.b": np.array([1e-6])}
    assert difference({**exact, "grad.b": np.array([3e-6])}, exact) == pytest.approx(5e-7)
