"""The table of runtimes against the runtimes themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from devices.runtimes import newest_for
from tests.conftest import ROOT

PYTHONS = {"the installed runtime": Path(sys.executable), "the floor": ROOT / ".venv-floor" / "bin" / "python"}
LOADS = """
import json, sys, onnxruntime as ort
ort.set_default_logger_severity(4)
loaded = []
for path in sys.argv[1:]:
    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        loaded.append(path)
    except Exception:
        pass
print(json.dumps([ort.__version__, loaded]))
"""


def model(opset: int, ir_version: int) -> bytes:
    """One Relu of an opset and an IR version."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("which", PYTHONS)
def test_the_table_says_what_a_runtime_loads(which: str, tmp_path: Path) -> None:
    """A runtime loads the newest opset and IR version that the table says, and nothing newer."""
    if not PYTHONS[which].exists():
        pytest.skip("the oldest supported runtime is not installed beside this one")
    opsets, versions = range(19, onnx.defs.onnx_opset_version() + 1), range(8, onnx.IR_VERSION + 1)
    for opset in opsets:
        (tmp_path / f"opset{opset}.onnx").write_bytes(model(opset, 8))
    for version in versions:
        (tmp_path / f"ir{version}.onnx").write_bytes(model(17, version))
    files = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([str(PYTHONS[which]), "-c", LOADS, *files], capture_output=True, text=True, check=True)
    release, loaded = json.loads(done.stdout)
    names_loaded = {Path(path).stem for path in loaded}

    opset, ir_version = newest_for(release)
    assert {n for n in opsets if f"opset{n}" in names_loaded} == {n for n in opsets if n <= opset}
    assert {n for n in versions if f"ir{n}" in names_loaded} == {n for n in versions if n <= ir_version}
