"""What optimum exported against transformers: a difference is refused, where optimum itself would warn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from transformers import AutoModel

from console.errors import VerificationError
from export.capture import capture
from export.sources import against_torch
from export.sources.against_torch import check_export
from export.sources.captured import Captured

OUTPUTS = ["last_hidden_state"]
TRACED = {"batch_size": 2, "sequence_length": 16, "num_choices": 4}


@pytest.fixture(scope="module")
def asked(bert_folder: Path) -> tuple[Any, Any]:
    """The model in torch, and how optimum feeds it."""
    from optimum.exporters.onnx.model_configs import BertOnnxConfig

    model = AutoModel.from_pretrained(bert_folder).eval()
    return model, BertOnnxConfig(model.config, task="feature-extraction")


def changed(captured: Captured, folder: Path, change: Any) -> Path:
    """A copy of a captured graph in which something is different."""
    shutil.copy(captured.original.with_suffix(".bin"), folder)
    model = onnx.load(captured.original, load_external_data=False)
    change(model.graph)
    (folder / captured.original.name).write_bytes(model.SerializeToString())
    return folder / captured.original.name


def test_a_right_graph_passes(asked: tuple[Any, Any], captured_bert: Captured) -> None:
    """At other sizes than those of the trace, far below the bar."""
    assert check_export(*asked, captured_bert.original, OUTPUTS, TRACED) <= 1e-5


def heavier(graph: Any) -> None:
    """One small weight, the first bias that lies in the graph itself, is 2 % larger."""
    tensor = next(t for t in graph.initializer if t.name.endswith("bias") and t.HasField("raw_data"))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.02), tensor.name))


def swapped(graph: Any) -> None:
    """The output is transposed."""
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    last.output[0] = "before"
    graph.node.append(onnx.helper.make_node("Transpose", ["before"], [graph.output[0].name], perm=[1, 0, 2]))


def traced(graph: Any) -> None:
    """A graph that holds for 16 tokens only."""
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    last.output[0] = "before"
    graph.initializer.append(numpy_helper.from_array(np.zeros((16, 1), np.float32), "sixteen"))
    graph.node.append(onnx.helper.make_node("Add", ["before", "sixteen"], [graph.output[0].name]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (heavier, r"last_hidden_state of .* BertModel in torch to agree within 0.0001, found a relative difference of"),
        (swapped, r"found the shapes \[11, 3, 32\] and \[3, 11, 32\]"),
        (traced, "expected the graph that optimum exported to run, found"),
    ],
)
def test_a_graph_that_computes_something_else_is_refused(
    change: Any, words: str, asked: tuple[Any, Any], captured_bert: Captured, tmp_path: Path
) -> None:
    """A weight that differs, other shapes, and a size that the trace took for a constant."""
    with pytest.raises(VerificationError, match=words) as caught:
        check_export(*asked, changed(captured_bert, tmp_path, change), OUTPUTS, TRACED)
    assert "\n" not in str(caught.value)


def test_an_export_is_compared(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model comes in by this door without the comparison: with a bar that nothing passes, none does."""
    monkeypatch.setattr(against_torch, "BAR", -1.0)
    with pytest.raises(VerificationError, match="expected last_hidden_state of the graph that optimum exported"):
        capture(str(bert_folder), "feature-extraction", tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
