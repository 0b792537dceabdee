"""Exports that end half-way, by the real command: a full disk, a signal, something in the way. Nothing is left."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.errors import StorageError
from export.cli import export
from tests.conftest import ROOT
from tests.export.sources.files import perceptron, write
from tests.processes import PATIENCE_S, started


def command(model: Path, out: Path, *more: str) -> list[str]:
    """An export for a board of 100 MiB."""
    return [str(model), "--budget", "100MiB", "--out", str(out), *more]


# a file may have so many bytes: the public key has more than 70, and of a bundle the graph, the golden values, the
# weights and the manifest, in this order of size, lie between the others
@pytest.mark.parametrize("limit", [70, 1500, 2700, 3500, 4200])
def test_a_full_disk_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """Wherever no more can be written: exit code 18, one sentence, no bundle, no key, no folder."""
    model, out = write(perceptron(), tmp_path / "model.onnx"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, str(ROOT / "edgequilt.py"), "export", *command(model, out, "--quant", "fp32", "--json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # no threads
    )
    assert (done.returncode, done.stdout) == (StorageError.exit_code, ""), done.stderr
    assert done.stderr.startswith("edgequilt: expected to")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def endless(path: Path) -> Path:
    """A loop that never ends, which nothing but running it would tell."""
    infos = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 4]),
    ]
    after = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 4]),
    ]
    steps = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", infos, after)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy")
    yes = numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph([helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)], "g", [x], [y], [yes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(number: int, code: int, tmp_path: Path) -> None:
    """Told to stop while it works, the command ends with its children and takes back what was half done."""
    out = tmp_path / "out"
    line = [sys.executable, "edgequilt.py", "export", *command(endless(tmp_path / "model.onnx"), out)]
    with started(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("exporting")
        running.send_signal(number)
        said, complained = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, said, complained.strip()) == (code, "", "")
    assert not out.exists()


def test_all_bundles_or_none(tmp_path: Path) -> None:
    """A second board's bundle that cannot be written takes the first one's with it, and the key; a third stays."""
    model, out = write(perceptron(), tmp_path / "model.onnx"), tmp_path / "out"
    boards = [word for name in ("a", "b") for word in ("--device", name, "--budget", f"{name}=100MiB")]
    out.mkdir()
    (out / "b").write_text("mine")
    with pytest.raises(StorageError, match=r"expected a folder or nothing at .*b, found a file; move it away"):
        export([str(model), *boards, "--out", str(out), "--json"])
    assert [path.name for path in out.iterdir()] == ["b"]


@pytest.mark.parametrize("way", ["a file", "below a file", "no folder that can be"])
def test_a_target_that_cannot_be_written(way: str, tmp_path: Path) -> None:
    """One sentence before the model is looked at."""
    model = write(perceptron(), tmp_path / "model.onnx")
    (tmp_path / "mine").write_text("mine")
    out = {"a file": "mine", "below a file": "mine/out", "no folder that can be": "\N{SNOWMAN}" * 200}[way]
    with pytest.raises(StorageError, match="expected"):
        export([*command(model, tmp_path / out), "--json"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "model.onnx"]
    assert (tmp_path / "mine").read_text() == "mine"
