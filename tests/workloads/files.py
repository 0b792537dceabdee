"""ONNX files as somebody else's exporter wrote them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.quiet import quiet
from tests.workloads.draw import draw

FEATURES, HIDDEN, LAYERS, STEPS = 20, 768, 2, 12
NODES, NEIGHBOURS, WIDTHS = 256, 6, (512, 1152, 1152, 256)


class Recurrent(nn.Module):
    """Two LSTM layers over some steps, then scores of each; the state goes in and comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, LAYERS, batch_first=False)
        self.scores = nn.Linear(HIDDEN, 6)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, (h_next, c_next) = self.lstm(x, (h, c))
        return self.scores(y), h_next, c_next


def lstm(path: Path) -> None:
    """The operator LSTM twice; x [steps, batch, features], h and c [layers, batch, hidden] in and out.

    The exporter through TorchScript keeps the operator whole.
    """
    steps = {0: "steps", 1: "batch"}
    state = {1: "batch"}
    names = ("h_next", "c_next")
    arguments = (
        torch.zeros(STEPS, 2, FEATURES),
        torch.zeros(LAYERS, 2, HIDDEN),
        torch.zeros(LAYERS, 2, HIDDEN),
    )
    with quiet():  # that this exporter is old is known
        torch.onnx.export(
            draw(Recurrent(), seed=14),
            arguments,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x", "h", "c"],
            output_names=["scores", *names],
            dynamic_axes={"x": steps, "scores": steps, **dict.fromkeys(("h", "c", *names), state)},
        )


class Sage(nn.Module):
    """GraphSAGE with mean aggregation (Hamilton et al. 2017, algorithm 1) over a fixed number of neighbours.

    Features [nodes, 512] and neighbours int64 [nodes, 6] to unit vectors [nodes, 256].
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.own = nn.ModuleList(nn.Linear(i, o) for i, o in pairs)
        self.around = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in pairs)

    def forward(self, features: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        h = features
        for own, around in zip(self.own, self.around, strict=True):
            gathered = h[neighbours]  # [nodes, 6, width]
            h = torch.relu(own(h) + around(gathered.mean(dim=1)))
        unit: torch.Tensor = h / h.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return unit


def sage() -> nn.Module:
    """The net, drawn."""
    return draw(Sage(), seed=15)


def graphsage(path: Path) -> None:
    """Every layer reads the same table of neighbours; the number of nodes is symbolic."""
    nodes = torch.export.Dim("nodes", min=NEIGHBOURS)
    arguments = (torch.zeros(NODES, WIDTHS[0]), torch.zeros(NODES, NEIGHBOURS, dtype=torch.int64))
    with quiet():
        torch.onnx.export(
            sage(),
            arguments,
            str(path),
            dynamo=True,
            opset_version=18,
            input_names=["features", "neighbours"],
            output_names=["vectors"],
            dynamic_shapes=({0: nodes}, {0: nodes}),
            external_data=False,
            verbose=False,
        )


def net_in_if(path: Path) -> None:
    """The whole net is inside an If, one branch per sampling rate, as in silero-vad."""
    x, fast = _value("x", [1, 64]), helper.make_tensor_value_info("fast", TensorProto.BOOL, [])
    branches = {f"{side}_branch": _mlp(f"{side}", "x", seed) for seed, side in enumerate(("then", "else"), 16)}
    choice = helper.make_node("If", ["fast"], ["y"], name="by_rate", **branches)
    _save(helper.make_graph([choice], "inside-if", [x, fast], [_value("y", [1, 64])]), path)


def net_in_loop(path: Path) -> None:
    """The whole net is the body of a Loop: one layer, four times."""
    body = _mlp("step", "carried", 18)
    carried, again = _value("carried", [1, 64]), helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    keep = helper.make_node("Identity", ["again"], ["again_next"], name="keep")
    outputs = [helper.make_tensor_value_info("again_next", TensorProto.BOOL, []), *body.output]
    inner = helper.make_graph([keep, *body.node], "body", [count, again, carried], outputs, list(body.initializer))
    four, true = numpy_helper.from_array(np.array(4), "four"), helper.make_tensor("true", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["four", "true", "x"], ["y"], name="over_time", body=inner)
    _save(helper.make_graph([loop], "inside-loop", [_value("x", [1, 64])], [_value("y", [1, 64])], [four, true]), path)


def _mlp(prefix: str, source: str, seed: int, layers: int = 4, width: int = 64) -> Any:
    generator = np.random.default_rng(seed)
    nodes, weights, last = [], [], source
    for i in range(layers):
        drawn = (generator.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        weights.append(numpy_helper.from_array(drawn, f"{prefix}.{i}.weight"))
        nodes.append(helper.make_node("MatMul", [last, weights[-1].name], [f"{prefix}.{i}.x"], name=f"{prefix}.{i}"))
        nodes.append(helper.make_node("Tanh", [f"{prefix}.{i}.x"], [f"{prefix}.{i}.y"], name=f"{prefix}.{i}.tanh"))
        last = f"{prefix}.{i}.y"
    return helper.make_graph(nodes, prefix, [], [_value(last, [1, width])], weights)


def _value(name: str, shape: list[int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(graph: Any, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
