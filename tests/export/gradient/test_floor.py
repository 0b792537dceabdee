from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.gradient.backward import build_backward
from tests.export.gradient.harness import draw, parse
from tests.export.gradient.test_rules import CASES, OPSETS, wanted_of
from tests.export.oracle import Oracle

RUNS = """
import sys, pathlib, numpy as np, onnxruntime as ort
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    fed = dict(np.load(file.with_suffix(".npz")))
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level, options.log_severity_level, options.intra_op_num_threads = level, 3, 1
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        found = session.run(names, {value.name: fed[value.name] for value in session.get_inputs()})
        np.savez(file.with_suffix("." + level.name + ".npz"), **dict(zip(names, found)))
print(ort.__version__)
"""


# A scale that is broadcast over normalized axes is refused by 1.23 in the forward already.
FORWARD_REFUSED = {"LayerNormalization, broadcast scale"}


@pytest.mark.heavy
def test_the_oldest_runtime_runs_every_rule(tmp_path: Path, floor_python: Path) -> None:
    """onnxruntime 1.23 computes every backward graph of the table as numpy does, as written and optimized."""
    expected = {}
    for i, (name, text) in enumerate(CASES.items()):
        if name in FORWARD_REFUSED:
            continue
        model = build_backward(parse(text, "float", OPSETS.get(name, 20)), wanted=wanted_of(text))
        feeds = draw(model)
        ir.save(model, tmp_path / f"{i}.onnx")
        np.savez(tmp_path / f"{i}.npz", **feeds)  # type: ignore[arg-type]  # names of inputs as names of arrays
        expected[name] = Oracle(model)(feeds)
    done = subprocess.run(
        [str(floor_python), "-c", RUNS, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("1.23.")
    for i, name in enumerate(CASES):
        values = expected.get(name, {})
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            found = np.load(tmp_path / f"{i}.{level}.npz") if values else {}
            for key, array in values.items():
                scale = max(1.0, float(np.abs(array).max(initial=0.0)))
                message = f"{name}, {key}, {level}"
                np.testing.assert_allclose(found[key], array, rtol=0.0, atol=4e-6 * scale, err_msg=message)
