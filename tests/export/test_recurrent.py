"""Recurrent operators as steps: the same numbers as onnxruntime's operators, and gradients as torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.errors import UnsupportedModel
from export.fold import freeze
from export.recurrent.unroll import MOST_STEPS, recurrent_nodes, unroll
from tests.export.runtime import run, worst

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
TOLERANCE = 2e-6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

Numbers = dict[str, Any]


def net(
    kind: str, *, layout: int = 0, wanting: tuple[str, ...] = (), steps: int = STEPS, **attributes: Any
) -> tuple[ir.Model, Numbers]:
    """One operator over x and what `wanting` names (lengths, h, c, P), all its outputs; and inputs for it."""
    drawn = np.random.default_rng(5)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN
    shapes = {"W": (directions, rows, INPUTS), "R": (directions, rows, HIDDEN), "B": (directions, 2 * rows)}
    shapes |= {"P": (directions, 3 * HIDDEN)} if "P" in wanting else {}
    held = [numpy_helper.from_array(np.float32(0.5) * _drawn(drawn, s), n) for n, s in shapes.items()]
    state = (BATCH, directions, HIDDEN) if layout else (directions, BATCH, HIDDEN)
    sizes = {"x": (BATCH, steps, INPUTS) if layout else (steps, BATCH, INPUTS), "h": state, "c": state}
    fed: Numbers = {n: _drawn(drawn, s) for n, s in sizes.items() if n == "x" or n in wanting}
    if "lengths" in wanting:
        fed["lengths"] = np.array([steps, 2, 3], np.int32)
    names = ["x", "W", "R", "B", *(name if name in wanting else "" for name in ("lengths", "h", "c", "P"))]
    outputs = ["y", "y_h", *(["y_c"] if kind == "LSTM" else [])]
    names = names if kind == "LSTM" else names[:6]
    given: dict[str, Any] = {**({"layout": 1} if layout else {}), **attributes}
    node = helper.make_node(kind, names, outputs, name=f"/body/{kind}", hidden_size=HIDDEN, **given)
    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
    inputs = [helper.make_tensor_value_info(n, types[a.dtype], a.shape) for n, a in fed.items()]
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph([node], "net", inputs, made, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return ir.from_proto(model), fed


def _drawn(drawn: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return drawn.normal(size=shape).astype(np.float32)


def unrolled(model: ir.Model) -> ir.Model:
    """The same, written out and frozen."""
    out = model.clone()
    unroll(out, freeze(model, BATCH))
    assert not recurrent_nodes(out.graph)
    return freeze(out, BATCH)


CASES: dict[str, tuple[str, Numbers]] = {
    "lstm": ("LSTM", {}),
    "lstm both ways, states": ("LSTM", {"direction": "bidirectional", "wanting": ("h", "c")}),
    "lstm reverse, peepholes": ("LSTM", {"direction": "reverse", "wanting": ("h", "c", "P")}),
    "lstm coupled gates": ("LSTM", {"input_forget": 1}),
    "lstm lengths both ways": ("LSTM", {"direction": "bidirectional", "wanting": ("lengths", "h", "c")}),
    "lstm other functions": ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}),
    "gru": ("GRU", {}),
    "gru both ways, late reset": ("GRU", {"direction": "bidirectional", "linear_before_reset": 1, "wanting": ("h",)}),
    "gru reverse with lengths": ("GRU", {"direction": "reverse", "wanting": ("lengths", "h")}),
    "rnn both ways": ("RNN", {"direction": "bidirectional", "activations": ["Relu", "Tanh"], "wanting": ("h",)}),
    "rnn lengths": ("RNN", {"wanting": ("lengths",)}),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_compute_what_the_operator_does(case: str) -> None:
    """All outputs of every form equal those of onnxruntime's operator."""
    kind, options = CASES[case]
    model, fed = net(kind, **options)
    wanted, found = run(model, fed), run(unrolled(model), fed)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert worst(found[name], value) <= TOLERANCE, name


@pytest.mark.parametrize("kind", GATES)
def test_the_batch_may_come_first(kind: str) -> None:
    """Layout 1, which onnxruntime does not run, is layout 0 with every axis where it says."""
    wanting = ("h", "c") if kind == "LSTM" else ("h",)
    first, fed = net(kind, layout=1, direction="bidirectional", wanting=wanting)
    plain, _ = net(kind, direction="bidirectional", wanting=wanting)
    turned = {name: np.ascontiguousarray(np.swapaxes(value, 0, 1)) for name, value in fed.items()}
    wanted, found = run(plain, turned), run(unrolled(first), fed)
    axes = {"y": (2, 0, 1, 3), "y_h": (1, 0, 2), "y_c": (1, 0, 2)}
    for name, value in wanted.items():
        assert worst(found[name], value.transpose(axes[name])) <= TOLERANCE, name


def test_all_steps_read_one_weight() -> None:
    """Nothing is copied per step: two matrices per direction, each read by a product per step at most."""
    model, _ = net("LSTM", direction="bidirectional", wanting=("h", "c"))
    out = model.clone()
    unroll(out, freeze(model, BATCH))
    large = {str(v.name): v for v in out.graph.initializers.values() if str(v.name).endswith(".weight")}
    names = [f"body.l0{way}.{part}.weight" for way in ("", "_reverse") for part in ("input", "hidden")]
    assert sorted(large) == sorted(names)
    assert [len(list(large[name].uses())) for name in names] == [1, STEPS, 1, STEPS]


def test_what_cannot_be_written_out_is_refused() -> None:
    """Too many steps, clipped gates and unusual functions are named together with the node and what works still."""
    for options, reason in (
        ({"steps": MOST_STEPS + 1}, f"{MOST_STEPS + 1} steps"),
        ({"clip": 1.0}, "gates are clipped"),
        ({"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "gates with HardSigmoid"),
    ):
        model, _ = net("LSTM", **options)
        with pytest.raises(UnsupportedModel, match=rf"LSTM '/body/LSTM' \(.*{reason}\); .*train-forward"):
            unroll(model.clone(), freeze(model, BATCH))


@pytest.mark.heavy
def test_the_longest_runs() -> None:
    """As many steps as are allowed compute what the operator does."""
    model, fed = net("GRU", steps=MOST_STEPS, direction="reverse")
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(["y_h"], fed)[0]
    assert worst(run(unrolled(model), fed)["y_h"], wanted) <= TOLERANCE
