"""What a node's module is called, and which layers `auto` and patterns choose, over graphs named as exporters name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from console.errors import UnsupportedModel, UsageError
from export.slots import insert_slots
from export.targets import choose, layers


def graph(*named: tuple[str, str, str]) -> ir.Model:
    """A graph of (operator, node name, weight name), each with its own constant weight and an input of its own."""
    x = ir.val("x", ir.DataType.FLOAT, [1, 2, 4, 4])
    nodes, weights = [], []
    for op_type, name, weight in named:
        shape = [2, 2, 1, 1] if op_type == "Conv" else [2, 1, 1, 1] if op_type == "Depthwise" else [4, 4]
        value = ir.val(weight, const_value=ir.tensor(np.ones(shape, np.float32), name=weight))
        attributes = {"group": 2} if op_type == "Depthwise" else {}
        nodes.append(ir.node("Conv" if op_type == "Depthwise" else op_type, [x, value], attributes, name=name or None))
        weights.append(value)
    made = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, initializers=weights, opset_imports={"": 18})
    return ir.Model(made, ir_version=10)


def paths(*modules: str, op_type: str = "MatMul") -> list[tuple[str, str, str]]:
    """Nodes named after modules, weights without names."""
    return [(op_type, f"/{m.replace('.', '/')}/{op_type}", f"onnx::{op_type}_{i}") for i, m in enumerate(modules)]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (("MatMul", "/layer.0/attention/query/MatMul", "onnx::MatMul_740"), "layer.0.attention.query"),
        (("Conv", "n4", "conv2_1/x1_w_0"), "conv2_1.x1"),
        (("Conv", "", "features.0.weight"), "features.0"),
        (("Gemm", "Gemm_17", "classifier.6.weight_quantized"), "classifier.6"),
        (("Conv", "node_Conv_30", "layers.0.conv.weight"), "layers.0.conv"),
        (("MatMul", "", "embeddings"), "embeddings"),
        (("MatMul", "", "val_12"), "MatMul_0"),
        (("MatMul", "MatMul_12", "onnx::MatMul_740"), "MatMul_0"),
    ],
)
def test_a_module_is_found_in_what_names_there_are(node: tuple[str, str, str], expected: str) -> None:
    """Node path, then parameter, then position; a number of an exporter is no name."""
    assert [layer.module for layer in layers(graph(node))] == [expected]


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8)
        self.first, self.second = torch.nn.Linear(6, 5), torch.nn.Linear(5, 7, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.first(self.norm(self.conv(x))))


@pytest.mark.parametrize("dynamo", [True, False])
def test_both_exporters_of_torch_tell_the_modules(dynamo: bool, tmp_path: Path) -> None:
    """The module paths of torch itself, although one exporter renames nodes and the other weights."""
    net = torch.nn.Sequential()
    net.add_module("layers", torch.nn.ModuleDict({"0": Block()})["0"])
    given = torch.zeros(1, 4, 8, 8)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net.eval(), (given,), path, dynamo=dynamo, verbose=False)
    assert [layer.module for layer in layers(ir.load(path))] == ["layers.conv", "layers.first", "layers.second"]


ATTENTION = {
    "bert": ("encoder.layer.{}.attention.self", "query", "key", "value"),
    "swin": ("encoder.layers.{}.blocks.0.attention.self", "query", "key", "value"),
    "llama": ("model.layers.{}.self_attn", "q_proj", "k_proj", "v_proj"),
    "t5": ("encoder.block.{}.layer.0.SelfAttention", "q", "k", "v"),
    "distilbert": ("transformer.layer.{}.attention", "q_lin", "k_lin", "v_lin"),
}


@pytest.mark.parametrize("family", ATTENTION)
def test_auto_is_query_and_value_of_the_upper_half(family: str) -> None:
    """Of four blocks the last two, whatever the family calls its projections."""
    prefix, *names = ATTENTION[family]
    modules = [f"{prefix.format(block)}.{name}" for block in range(4) for name in (*names, "dense")]
    chosen = [layer.module for layer in choose(graph(*paths(*modules, "pooler.dense")), "auto")]
    assert chosen == [f"{prefix.format(block)}.{names[i]}" for block in (2, 3) for i in (0, 2)]


@pytest.mark.parametrize("name", ["c_attn", "qkv", "query_key_value", "qkv_proj"])
def test_auto_takes_a_fused_projection(name: str) -> None:
    """GPT-2 and others make query, key and value with one matrix: that one, not the output projection."""
    modules = [f"transformer.h.{block}.attn.{part}" for block in range(2) for part in (name, "c_proj")]
    assert [layer.module for layer in choose(graph(*paths(*modules)), "auto")] == [f"transformer.h.1.attn.{name}"]


def test_auto_without_attention_is_the_last_third() -> None:
    """Pointwise and full convolutions and linear layers of blocks; not depthwise ones, not the classifier."""
    features = [(f"features.{i}.{part}", part) for i in range(6) for part in ("depthwise", "project")]
    nodes = [
        ("Depthwise" if part == "depthwise" else "Conv", f"/{m.replace('.', '/')}/Conv", f"w{m}")
        for m, part in features
    ]
    model = graph(*nodes, ("Gemm", "/classifier/Gemm", "classifier.weight"))
    assert [layer.module for layer in choose(model, "auto")] == ["features.4.project", "features.5.project"]
    assert [layer.module for layer in choose(model, r"depthwise|classifier")][-2:] == [
        "features.5.depthwise",
        "classifier",
    ]


def test_auto_of_anything_else_is_all_linear() -> None:
    """An MLP or what follows a recurrent net: every linear layer, also where there are no blocks."""
    model = graph(("MatMul", "", "val_3"), ("Gemm", "", "fc.weight"))
    assert [layer.module for layer in choose(model, "auto")] == ["MatMul_0", "fc"]
    assert choose(model, "all-linear") == choose(model, "auto")


def test_what_has_no_layers_says_what_it_has() -> None:
    """Recurrent weights take no adapter; the message counts the operators."""
    x, h = ir.val("x", ir.DataType.FLOAT, [3, 1, 2]), ir.val("h")
    weights = [ir.val(n, const_value=ir.tensor(np.ones((1, 4, 2), np.float32), name=n)) for n in "WR"]
    nodes = [ir.node("LSTM", [x, *weights], {"hidden_size": 1}, outputs=[h])]
    model = ir.Model(ir.Graph([x], [h], nodes=nodes, initializers=weights, opset_imports={"": 18}), ir_version=10)
    with pytest.raises(UnsupportedModel, match="targets 'auto', found none; there are 1 LSTM, whose weights take no"):
        choose(model, "auto")


def test_two_weights_of_one_module_have_two_slots() -> None:
    """Their names differ and both say the module; names of graph inputs differ too."""
    model = graph(*paths("att", "att"))
    sites = insert_slots(model, "att")
    assert [(site.name, site.module) for site in sites] == [("att", "att"), ("att:1", "att")]
    assert len({value.name for value in model.graph.inputs}) == 1 + 3 * 2


@pytest.mark.parametrize(("kinds", "words"), [((), "found none"), (("lora", "vera"), "lora, bias, found lora, vera")])
def test_unknown_kinds_are_refused(kinds: tuple[str, ...], words: str) -> None:
    """The message names the kinds that exist."""
    with pytest.raises(UsageError, match=words):
        insert_slots(graph(*paths("att")), "att", kinds)
