from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from export.activations.calibrate import choose, required, runs_of
from export.activations.dynamic import dynamic
from export.activations.oracle import check
from export.activations.static import static
from export.fold import freeze
from export.gradient.dims import dims_of, dtype_of
from export.linears import linears
from export.sources.captured import Captured
from tests.export.activations.nets import work
from tests.export.runtime import Array, copy_of, run, text, worst

BATCH, SEQUENCE = 2, 12


@pytest.fixture(scope="module")
def frozen(captured_bert: Captured) -> ir.Model:
    """The tiny BERT for two sentences of twelve tokens."""
    return freeze(copy_of(captured_bert).model, BATCH, SEQUENCE)


def feeds_of(model: ir.Model, items: int, seed: int) -> dict[str, Array]:
    """Sentences."""
    drawn = text(items, SEQUENCE, seed=seed)
    return {name: drawn[name] for name in required(model)}


@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_an_encoder_computes_nearly_the_same_in_integers(way: str, frozen: ir.Model, tmp_path: Path) -> None:
    """All linear layers of a BERT become products of integers, and every one of them is exact."""
    names = [str(linear.weight.name) for linear in linears(frozen)]
    candidates = feeds_of(frozen, 24, seed=1)
    if way == "dynamic":
        made, reports = dynamic(frozen, names, work(tmp_path))
    else:
        runs = runs_of(frozen, candidates, choose(frozen, candidates, 16))
        made, reports = static(frozen, names, runs, "minmax", work(tmp_path))
    assert all(report.format == f"int8-{way}" for report in reports)
    assert sum(report.bytes_after for report in reports) < 0.4 * sum(report.bytes_before for report in reports)
    for node in made.graph:
        for value in node.outputs:
            dims_of(value)
            dtype_of(value)
    feeds = feeds_of(frozen, BATCH, seed=7)
    for name, wanted in run(frozen, feeds).items():
        assert 0 < worst(run(made, feeds)[name], wanted) < 0.05
    assert check(made, feeds) < 0.02
    assert check(made, feeds, "extended") < 0.02
