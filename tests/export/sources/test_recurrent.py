"""A recurrent net from an ONNX file to bundles that carry its state; torch is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge.steps import Steps
from export.prepare import Wanted, prepare
from tests.export import decoders

INPUT, HIDDEN, STEPS = 6, 10, 20


def write_lstm(path: Path, lstm: torch.nn.LSTM, head: torch.nn.Linear) -> None:
    """One step of a stacked LSTM: x [1, INPUT] and h, c [1, 1, HIDDEN] per layer in; y [1, 3] and new h, c out."""
    weights, nodes, current = {}, [], "x0"
    nodes.append(helper.make_node("Unsqueeze", ["x", "first"], ["x0"]))
    weights["first"] = np.array([0])
    for k in range(lstm.num_layers):
        w, r, bw, br = (
            getattr(lstm, f"{name}_l{k}").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # torch orders the gates input, forget, cell, output; ONNX input, output, forget, cell
        order = np.concatenate([np.arange(g * HIDDEN, (g + 1) * HIDDEN) for g in (0, 3, 1, 2)])
        weights |= {
            f"w{k}": w[order][None],
            f"r{k}": r[order][None],
            f"b{k}": np.concatenate([bw[order], br[order]])[None],
        }
        inputs = [current, f"w{k}", f"r{k}", f"b{k}", "", f"h{k}", f"c{k}"]
        nodes.append(helper.make_node("LSTM", inputs, ["", f"h{k}_next", f"c{k}_next"], f"lstm{k}", hidden_size=HIDDEN))
        current = f"h{k}_next"
    weights |= {"v": head.weight.detach().numpy().T.copy(), "o": head.bias.detach().numpy()}
    nodes += [
        helper.make_node("Squeeze", [current, "first"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["product"]),
        helper.make_node("Add", ["product", "o"], ["y"]),
    ]
    states = [f"{s}{k}" for k in range(lstm.num_layers) for s in "hc"]
    state = [1, 1, HIDDEN]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUT]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, state) for name in states),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3]),
            *(helper.make_tensor_value_info(f"{name}_next", TensorProto.FLOAT, state) for name in states),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("segments", [1, 2])
def test_an_lstm_goes_on_as_in_torch(segments: int, tmp_path: Path) -> None:
    """Over 20 steps, in one segment and in two that each keep the state of their own layers."""
    torch.manual_seed(1)
    lstm, head = torch.nn.LSTM(INPUT, HIDDEN, num_layers=2), torch.nn.Linear(HIDDEN, 3)
    write_lstm(tmp_path / "lstm.onnx", lstm, head)
    states = {f"{s}{k}": f"{s}{k}_next" for k in range(2) for s in "hc"}
    wanted = Wanted(str(tmp_path / "lstm.onnx"), targets="", states=states)
    prepared = prepare(wanted, ("fp32",), ("serve",), tmp_path / "work")
    steps = Steps([decoders.bundle(prepared, segments, tmp_path / "bundle")])
    assert {record.input for record in steps.records} == set(states)
    x = torch.randn(STEPS, 1, INPUT)
    with torch.no_grad():
        expected = head(lstm(x)[0]).numpy()
    found = np.stack([steps.run({"x": step})["y"] for step in x.numpy()])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    steps.reset()
    np.testing.assert_allclose(steps.run({"x": x[0].numpy()})["y"], expected[0], rtol=1e-5, atol=1e-5)
