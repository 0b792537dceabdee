"""Where a head goes: outputs of every rank, by default and by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.errors import UnsupportedModel, UsageError
from export.prepare import Prepared, Wanted, prepare
from tests.export.runtime import run, worst

CLASSES = 3
TOLERANCE = 1e-5


def _value(name: str, *dims: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))


def _saved(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: tuple[int, ...]) -> str:
    drawn = np.random.default_rng(3)
    kept = [numpy_helper.from_array(drawn.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return str(path)


def pictures(path: Path) -> str:
    """Pictures [batch, 3, 6, 6] to channels [batch, 5, 4, 4], and those again with channels last."""
    nodes = [
        helper.make_node("Conv", ["features", "kernel"], ["channels"], name="/body/Conv"),
        helper.make_node("Transpose", ["channels"], ["logits"], name="/body/Transpose", perm=[0, 2, 3, 1]),
    ]
    outputs = [_value("channels", "n", 5, 4, 4), _value("logits", "n", 4, 4, 5)]
    return _saved(path, nodes, [_value("features", "n", 3, 6, 6)], outputs, kernel=(5, 3, 3, 3))


def cell(path: Path) -> str:
    """h' = tanh(x W + h U) with its state in and out: y [batch, 4] is h', bent."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="/cell/in/MatMul"),
        helper.make_node("MatMul", ["h", "u"], ["hu"], name="/cell/again/MatMul"),
        helper.make_node("Add", ["xw", "hu"], ["sum"], name="/cell/Add"),
        helper.make_node("Tanh", ["sum"], ["h_next"], name="/cell/Tanh"),
        helper.make_node("Sin", ["h_next"], ["y"], name="/cell/Sin"),
    ]
    inputs, outputs = [_value("x", "n", 6), _value("h", "n", 4)], [_value("y", "n", 4), _value("h_next", "n", 4)]
    return _saved(path, nodes, inputs, outputs, w=(6, 4), u=(4, 4))


def _prepared(source: str, folder: Path, **wanted: Any) -> Prepared:
    return prepare(Wanted(source, classes=CLASSES, **wanted), ("fp32",), ("train",), folder / "work")


def _features(prepared: Prepared, feeds: dict[str, Any]) -> Any:
    assert prepared.head is not None
    found = run(prepared.frozen(2), feeds)
    assert found["logits"].shape == (2, CLASSES)
    return found[prepared.head.features_output]


def _unit(pooled: Any) -> Any:
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True) * np.sqrt(pooled.shape[1])


@pytest.mark.parametrize(
    ("wanted", "axes"),
    [({"features": "channels"}, (2, 3)), ({"features": "logits", "features_axis": 3}, (1, 2))],
    ids=["channels first", "channels last"],
)
def test_pixels_are_averaged(tmp_path: Path, wanted: dict[str, Any], axes: tuple[int, int]) -> None:
    """Features are the mean over all pixels; neither an input nor an output of the head's own names is in the way."""
    source = pictures(tmp_path / "net.onnx")
    prepared = _prepared(source, tmp_path, **wanted)
    feeds = prepared.samples(2, 4)[0]
    hidden = run(Path(source), feeds)[wanted["features"]].astype(np.float64)
    assert worst(_features(prepared, feeds), _unit(hidden.mean(axes))) <= TOLERANCE
    assert worst(_features(prepared, feeds), prepared.reference([feeds], {})[0]["head.features"]) <= TOLERANCE
    assert prepared.head is not None
    assert prepared.head.pooling == "pixels"


def test_a_recurrent_net_begins_with_zeros_under_a_head(tmp_path: Path) -> None:
    """The output that is no state is taken as it is; the state is no input any more, and is zero."""
    source = cell(tmp_path / "net.onnx")
    prepared = _prepared(source, tmp_path, states={"h": "h_next"})
    feeds = prepared.samples(2, 4)[0]
    assert list(feeds) == ["x"]
    y = run(Path(source), {**feeds, "h": np.zeros((2, 4), np.float32)})["y"].astype(np.float64)
    assert worst(_features(prepared, feeds), _unit(y)) <= TOLERANCE
    assert worst(_features(prepared, feeds), prepared.reference([feeds], {})[0]["features"]) <= TOLERANCE
    assert prepared.head is not None
    assert prepared.head.pooling == "none"


def test_what_cannot_have_a_head_is_refused(tmp_path: Path) -> None:
    """Several outputs need a name, a name must be an output, and features need classes and a micro-batch in front."""
    source = pictures(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="expected --features OUTPUT .* it has channels, logits"):
        _prepared(source, tmp_path)
    with pytest.raises(UsageError, match="found 'pixels'; it has channels, logits"):
        _prepared(source, tmp_path, features="pixels")
    with pytest.raises(UsageError, match=r"--features-axis of 1 to 3 for channels \[7, 5, 4, 4\], found 4"):
        _prepared(source, tmp_path, features="channels", features_axis=4)
    with pytest.raises(UsageError, match="expected --features beside --labels"):
        prepare(Wanted(source, features="channels"), ("fp32",), ("serve",), tmp_path / "work")
    turned = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
    flat = _saved(tmp_path / "turned.onnx", turned, [_value("x", "n", 4)], [_value("y", 4, "n")])
    with pytest.raises(UnsupportedModel, match=r"found y \[4, 7\] at micro-batch 7"):
        _prepared(flat, tmp_path, targets="")
