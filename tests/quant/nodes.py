"""Graphs of one node, run by onnxruntime: what the packed bytes mean to the runtime that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def run_node(
    op_type: str,
    feed: Mapping[str, Array],
    constants: Mapping[str, Array | onnx.TensorProto | None],
    attributes: Mapping[str, Any],
    domain: str = "com.microsoft",
) -> Array:
    """The output of one node whose inputs are the feeds, then the constants; None is an input left out.

    Optimizations are off: the node runs as it is written.
    """
    tensors = {
        name: tensor if isinstance(tensor, onnx.TensorProto) else numpy_helper.from_array(tensor, name)
        for name, tensor in constants.items()
        if tensor is not None
    }
    names = [*feed, *(name if tensor is not None else "" for name, tensor in constants.items())]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op_type, names, ["y"], domain=domain, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in feed.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", inputs, [output], list(tensors.values()))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], dict(feed))[0])


def uint4(name: str, shape: tuple[int, ...], packed: Array) -> onnx.TensorProto:
    """A uint4 tensor from bytes as they are, so that their order is what is tested."""
    return TensorProto(name=name, dims=shape, data_type=TensorProto.UINT4, raw_data=packed.tobytes())


def gaussian(rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Weights as layers have them, with a few outliers; sizes differ from row to row."""
    drawn = np.random.default_rng(seed)
    w = drawn.standard_normal((rows, columns)) * 10.0 ** drawn.uniform(-3, 1, (rows, 1))
    w[drawn.random(w.shape) < 0.01] *= 6
    return w.astype(np.float32)
