"""Every workload without the doors: frozen, cut where it may be cut, and run as a chain."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from export.chain import Chain, Link
from export.cut import cut
from export.drawn import draw_inputs
from export.fold import freeze
from export.legal import legal_cuts
from export.opset import raise_opset
from export.write import write_graphs
from tests.export.runtime import worst
from tests.workloads.raw import raw_graphs
from tests.workloads.registry import WORKLOADS, Workload

pytestmark = pytest.mark.heavy

BAR = 1e-5
SEQUENCE = 24
MOST_CUTS = 5
# hundreds of MB: test_light.py has them
HUGE = ("light-bvlc_alexnet", "light-vgg19", "light-zfnet512")
SIZES = {"num_channels": 3, "encoder_sequence_length": 20}


@pytest.mark.parametrize("workload", [w for w in WORKLOADS if w.name not in HUGE], ids=lambda w: w.name)
def test_the_chain_is_the_whole(workload: Workload, built: Path, tmp_path: Path) -> None:
    """All outputs of up to six segments, cut at legal places drawn from a seed, are those of the exporter's file."""
    for path in raw_graphs(workload, built):
        model = ir.load(path)
        raise_opset(model)
        sizes = {**SIZES, **dict.fromkeys(("height", "width"), workload.pixels), **workload.sizes}
        frozen = freeze(model, 2, SEQUENCE, sizes)
        feeds = draw_inputs(frozen.graph, seed=3)
        legal = legal_cuts(frozen.graph)
        assert bool(legal) == (not workload.refused)
        positions = sorted(random.Random(4).sample(legal, min(MOST_CUTS, len(legal))))
        links = []
        for segment in cut(frozen, positions):
            write_graphs({segment.name: segment.model}, tmp_path, f"{segment.name}.bin")
            links.append(Link(segment.name, tmp_path / f"{segment.name}.onnx"))
        got = Chain(links).forward(feeds)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        whole = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in whole.get_outputs()]
        wanted = whole.run(names, {value.name: feeds[value.name] for value in whole.get_inputs()})
        for name, value in zip(names, wanted, strict=True):
            assert np.ptp(value) > 0, f"{name} says nothing"
            assert worst(got[name], value) <= BAR
