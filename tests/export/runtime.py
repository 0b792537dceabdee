"""Running a graph under onnxruntime as a board would, and feeds for encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from export.features import Features, find_features
from export.sources.captured import Captured

Array = npt.NDArray[Any]

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def session(model: ir.Model | Path, level: str = "disable") -> ort.InferenceSession:
    """A session in file order, on one thread; "disable" is what training graphs are shipped with."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    if level == "disable":
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    options.intra_op_num_threads = 1
    # it warns of every default that can be fed
    options.log_severity_level = 3
    if isinstance(model, Path):
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # what is mapped stays readable after the files are gone
        ir.save(model, path, external_data="model.bin", size_threshold_bytes=1024)
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(model: ir.Model | Path, feeds: Mapping[str, Array], level: str = "disable") -> dict[str, Array]:
    """All outputs by name; feeds that the graph does not have are left out, so that twins can share them."""
    loaded = session(model, level)
    known = {v.name for v in (*loaded.get_inputs(), *loaded.get_overridable_initializers())}
    names = [v.name for v in loaded.get_outputs()]
    return dict(zip(names, loaded.run(names, {n: a for n, a in feeds.items() if n in known}), strict=True))


def inline(model: ir.Model) -> ir.Model:
    """A copy with its weights inside, for readers that know of no folder."""
    return ir.external_data.load_to_model(model.clone())


def copy_of(captured: Captured) -> Captured:
    """The same capture with a graph that a test may change."""
    return replace(captured, model=captured.model.clone())


def hidden_of(captured: Captured) -> str:
    """The output that a head goes on, of a model that has one."""
    assert captured.hidden is not None
    return captured.hidden


def features_of(captured: Captured) -> Features:
    """The same with its shape, of texts of six tokens."""
    return find_features(captured, 6)


def text(batch: int, sequence: int, vocabulary: int = 96, seed: int = 0) -> dict[str, Array]:
    """Token ids with padding on the right, a different length in each row, the first row full."""
    drawn = np.random.default_rng(seed)
    lengths = np.maximum(1, sequence - 2 * np.arange(batch))
    mask = (np.arange(sequence) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": drawn.integers(5, vocabulary, (batch, sequence)) * mask,
        "attention_mask": mask,
        "token_type_ids": drawn.integers(0, 2, (batch, sequence)) * mask,
    }


def pictures(batch: int, size: int = 16, seed: int = 0) -> dict[str, Array]:
    """Pictures after preprocessing."""
    drawn = np.random.default_rng(seed)
    return {"pixel_values": drawn.standard_normal((batch, 3, size, size)).astype(np.float32)}


def worst(found: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest wanted value where that exceeds 1."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.max(np.abs(found - wanted), initial=0.0) / max(1.0, float(np.max(np.abs(wanted), initial=0.0))))
