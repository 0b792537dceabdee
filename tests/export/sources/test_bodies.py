"""Operators that are newer than the common opset compute in plain ones what they did, and have torch's gradients."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from onnx.numpy_helper import to_array
from torch import Tensor, nn
from torch.nn import functional

from console.errors import UnsupportedModel
from export.fold import freeze
from export.gradient.backward import build_backward
from export.sources.onnx_file import capture_onnx
from export.sources.onnx_opset import HIGHEST, to_common_opset
from tests.export.gradient.harness import Array, run, session

OPERATORS = ["Attention", "RMSNormalization", "RotaryEmbedding", "Swish"]
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
BATCH, LENGTH, WIDTH, HEADS, FEWER = 3, 5, 16, 4, 2


@cache
def cases() -> list[tuple[onnx.ModelProto, list[list[Array]]]]:
    """Every case of the onnx package with float32 input and an operator that is written out: what goes in and out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package divides by zero on purpose while it makes them
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    made = []
    for case in found:
        if case.model is None or case.data_sets is None or case.model.graph.node[0].op_type not in OPERATORS:
            continue
        if len(case.model.graph.node) == 1 and not any(
            i.type.tensor_type.elem_type in HALVES for i in case.model.graph.input
        ):
            both = [
                [to_array(a) if isinstance(a, TensorProto) else np.asarray(a) for a in part]
                for part in case.data_sets[0]
            ]
            made.append((case.model, both))
    return made


@pytest.mark.heavy
@pytest.mark.parametrize("operator", OPERATORS)
def test_cases_of_the_standard(operator: str) -> None:
    """Every case gives its own result after it is written out and frozen, in onnxruntime."""
    judged = [case for case in cases() if case[0].graph.node[0].op_type == operator]
    for proto, (fed, expected) in judged:
        model = ir.from_proto(proto)
        to_common_opset(model)
        frozen = freeze(model, 1)
        assert frozen.graph.opset_imports[""] == HIGHEST
        found = run(session(frozen, as_written=True), dict(zip([i.name for i in proto.graph.input], fed, strict=True)))
        for array, wanted in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-5, err_msg=str(proto.graph.node[0]))
    assert judged


class Attending(nn.Module):
    """Causal attention whose four heads share two heads of keys and values, as torch's own product computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.value = (nn.Linear(WIDTH, WIDTH // HEADS * FEWER) for _ in range(2))
        self.norm = nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """x [BATCH, LENGTH, WIDTH], and the same out."""
        x = self.norm(x)
        query, key, value = (
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer, heads in ((self.query, HEADS), (self.key, FEWER), (self.value, FEWER))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        made: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return made


def test_torch_of_opset_23_has_the_gradients_of_autograd(tmp_path: Path) -> None:
    """A file with Attention and RMSNormalization is taken in; gradients of input and weights are torch's to 1e-5."""
    torch.manual_seed(2)
    net, x = Attending().eval(), torch.randn(BATCH, LENGTH, WIDTH)
    program = torch.onnx.export(
        net, (x,), dynamo=True, opset_version=23, verbose=False, input_names=["x"], output_names=["y"]
    )
    assert program is not None
    program.save(tmp_path / "attending.onnx")
    assert {"Attention", "RMSNormalization"} <= {n.op_type for n in onnx.load(tmp_path / "attending.onnx").graph.node}

    captured = capture_onnx(tmp_path / "attending.onnx", tmp_path / "work")
    frozen = freeze(captured.model, BATCH)
    wanted = ["x", "norm.weight", "query.bias", "value.bias"]
    backward = build_backward(frozen, wanted=wanted, seeds={"y": "grad.y"})
    seed = torch.randn(BATCH, LENGTH, WIDTH)
    found = run(session(backward, as_written=True), {"x": x.numpy(), "grad.y": seed.numpy()})

    double, at = net.double(), x.double().requires_grad_()
    (double(at) * seed.double()).sum().backward()
    own = dict(double.named_parameters())
    for name in wanted:
        gradient = at.grad if name == "x" else own[name].grad
        assert gradient is not None
        scale = float(gradient.abs().max())
        np.testing.assert_allclose(found[f"grad.{name}"], gradient.numpy(), rtol=0, atol=1e-5 * scale, err_msg=name)


def test_a_newer_operator_without_a_body_is_refused(tmp_path: Path) -> None:
    """TensorScatter of opset 24 has no body; it is named, with the opset to export with."""
    node = helper.make_node("TensorScatter", ["past", "update"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 3]) for name in ("past", "update", "y")]
    graph = helper.make_graph([node], "cache", info[:2], info[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10), tmp_path / "a.onnx")
    with pytest.raises(UnsupportedModel, match=f"operators of opset {HIGHEST}, found TensorScatter of opset 24"):
        capture_onnx(tmp_path / "a.onnx", tmp_path / "work")
