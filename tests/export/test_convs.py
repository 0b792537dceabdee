"""Slots beside convolutions, and bias slots: torch and PEFT are the oracles."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch

from export.convs import convolutions
from export.fold import freeze
from export.slots import SlotSite, insert_slots
from tests.export.runtime import run, worst

Array = npt.NDArray[Any]
TOLERANCE = 1e-5
BATCH, CHANNELS, OUT, SIZE = 2, 4, 6, 9
LAYERS: list[tuple[int, Any, dict[str, Any]]] = [
    (1, 3, {"stride": 2, "padding": 1}),
    (2, 3, {"stride": 2, "padding": 1}),
    (2, (3, 2), {"padding": (2, 0)}),
    (2, 1, {}),
    (3, 2, {"stride": (1, 2, 1)}),
]


def random_layer(dimensions: int, kernel: Any, seed: int = 3, out: int = OUT, **settings: Any) -> torch.nn.Module:
    """A torch convolution with random weights and bias."""
    torch.manual_seed(seed)
    cls = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 1]
    return cls(CHANNELS, out, kernel, **settings).eval()


def random_norm(features: int, seed: int = 4) -> torch.nn.BatchNorm2d:
    """A BatchNormalization in inference mode whose every number is random."""
    torch.manual_seed(seed)
    norm = torch.nn.BatchNorm2d(features).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data.uniform_(0.3, 2.0)  # type: ignore[union-attr]  # a norm with affine and statistics has all four
    return norm


def as_graph(layer: Any, norm: Any = None, name: str = "/features.0/Conv") -> ir.Model:
    """x -> Conv (-> BatchNormalization) -> Relu -> y, as an exporter that folds nothing writes it."""
    nd = len(layer.kernel_size)
    held = {"w": layer.weight, "b": layer.bias}
    if norm is not None:
        held |= {"gamma": norm.weight, "beta": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
    values = {n: ir.val(n, const_value=ir.tensor(t.detach().numpy().copy(), name=n)) for n, t in held.items()}
    attributes: dict[str, Any] = {
        "strides": list(layer.stride),
        "pads": [*layer.padding, *layer.padding],
        "dilations": list(layer.dilation),
        "group": layer.groups,
        "kernel_shape": list(layer.kernel_size),
    }
    x, y = ir.val("x", ir.DataType.FLOAT, ["batch", CHANNELS, *[SIZE] * nd]), ir.val("y", ir.DataType.FLOAT)
    conv = ir.val("conv")
    nodes = [ir.node("Conv", [x, values["w"], values["b"]], attributes, outputs=[conv], name=name)]
    last = conv
    if norm is not None:
        last = ir.val("normed")
        inputs = [conv, *(values[n] for n in ("gamma", "beta", "mean", "variance"))]
        nodes.append(ir.node("BatchNormalization", inputs, {"epsilon": norm.eps}, outputs=[last], name="/bn"))
    nodes.append(ir.node("Relu", [last], outputs=[y], name="/relu"))
    graph = ir.Graph([x], [y], nodes=nodes, initializers=list(values.values()), opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=10)


def given(dimensions: int = 2, seed: int = 5) -> Array:
    """An input drawn from a seed."""
    shape = (BATCH, CHANNELS, *[SIZE] * dimensions)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def factors(site: SlotSite, rank: int, scale: float = 1.5, seed: int = 6) -> dict[str, Array]:
    """A, B and scale of a slot, drawn from a seed."""
    drawn = np.random.default_rng(seed)
    return {
        site.a: drawn.standard_normal((site.features_in, rank)).astype(np.float32),
        site.b: drawn.standard_normal((rank, site.features_out)).astype(np.float32),
        site.scale: np.array(scale, np.float32),
    }


def matrix(site: SlotSite, fed: Mapping[str, Array]) -> torch.Tensor:
    """The change of the weight, [out, C, *kernel]."""
    product = float(fed[site.scale]) * fed[site.a].astype(np.float64) @ fed[site.b].astype(np.float64)
    return torch.from_numpy(product.T.reshape(site.features_out, *site.window).astype(np.float32))


def everywhere(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """y of the graph as captured and frozen, run as written and optimized."""
    frozen = freeze(model, BATCH, None)
    return [run(m, feeds, level)["y"] for m in (model, frozen) for level in ("disable", "all")]


@pytest.mark.parametrize(("dimensions", "kernel", "settings"), LAYERS)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_peft_computes_the_same(dimensions: int, kernel: Any, settings: dict[str, Any], rank: int) -> None:
    """PEFT's convolution with lora_A [r, C, *kernel] and lora_B [out, r, 1, ...] gives y; rank 0 the base."""
    from peft import LoraConfig, get_peft_model

    layer = random_layer(dimensions, kernel, **settings)
    model = as_graph(layer)
    (site,) = insert_slots(model, r"features\.0")
    assert site.features_in == CHANNELS * int(np.prod(layer.kernel_size))  # type: ignore[arg-type]
    feeds = {"x": given(dimensions), **factors(site, rank)}
    net: Any = torch.nn.Sequential(layer)
    if rank:
        net = get_peft_model(net, LoraConfig(r=rank, lora_alpha=1.5 * rank, target_modules=["0"])).eval()
        lora = net.base_model.model[0]
        with torch.no_grad():
            lora.lora_A["default"].weight.copy_(torch.from_numpy(feeds[site.a].T.reshape(rank, *site.window)))
            lora.lora_B["default"].weight.view(OUT, rank).copy_(torch.from_numpy(feeds[site.b].T.copy()))
    with torch.no_grad():
        wanted = torch.relu(net(torch.from_numpy(feeds["x"]))).numpy()
        base = torch.relu(layer(torch.from_numpy(feeds["x"]))).numpy()
    assert (worst(wanted, base) > 0.1) == (rank > 0)
    for found in everywhere(model, feeds):
        assert worst(found, wanted) <= TOLERANCE


@pytest.mark.parametrize(("groups", "dilation"), [(1, 2), (2, 1), (CHANNELS, 1)])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_layer_gains_a_low_rank_change_of_its_matrix(groups: int, dilation: int, rank: int) -> None:
    """Dilated (PEFT forgets that), grouped, depthwise: the weight [out, C / groups, kh, kw] plus scale A B in torch."""
    layer = random_layer(2, 3, out=8, padding=1, groups=groups, dilation=dilation)
    model = as_graph(layer)
    (site,) = insert_slots(model, "features")
    assert (site.features_in, site.window, site.groups) == (CHANNELS // groups * 9, (CHANNELS // groups, 3, 3), groups)
    feeds = {"x": given(), **factors(site, rank)}
    with torch.no_grad():
        layer.weight += matrix(site, feeds)  # type: ignore[operator]  # a parameter
        wanted = torch.relu(layer(torch.from_numpy(feeds["x"]))).numpy()
    for found in everywhere(model, feeds):
        assert worst(found, wanted) <= TOLERANCE


@pytest.mark.parametrize("groups", [1, CHANNELS])
@pytest.mark.parametrize("kinds", [("lora",), ("bias",), ("lora", "bias")])
def test_a_normalisation_behind_is_still_folded(groups: int, kinds: tuple[str, ...]) -> None:
    """The slot's sum is before the BatchNormalization, in torch; the frozen graph has folded it and agrees."""
    layer, norm = random_layer(2, 3, out=8, groups=groups), random_norm(8)
    model = as_graph(layer, norm)
    sites = {site.kind: site for site in insert_slots(model, "features", kinds)}
    assert tuple(sites) == kinds
    feeds = {"x": given()}
    with torch.no_grad():
        base = torch.relu(norm(layer(torch.from_numpy(feeds["x"])))).numpy()
        if "lora" in kinds:
            feeds |= factors(sites["lora"], 3)
            layer.weight += matrix(sites["lora"], feeds)  # type: ignore[operator]  # a parameter
        if "bias" in kinds:
            feeds[sites["bias"].bias] = np.arange(8, dtype=np.float32)
            layer.bias += torch.arange(8)  # type: ignore[operator]  # a parameter
        wanted = torch.relu(norm(layer(torch.from_numpy(feeds["x"])))).numpy()
    assert worst(wanted, base) > 0.1
    for found in everywhere(model, feeds):
        assert worst(found, wanted) <= TOLERANCE
    for found in everywhere(model, {"x": feeds["x"]}):
        assert worst(found, base) <= TOLERANCE
    assert "BatchNormalization" not in {node.op_type for node in freeze(model, BATCH, None).graph}


@pytest.mark.parametrize("form", ["MatMul", "Gemm"])
def test_a_bias_slot_adds_to_every_row(form: str) -> None:
    """y + delta after a linear layer; zeros by default; an input of its own beside A, B and scale."""
    drawn = np.random.default_rng(8)
    w = drawn.standard_normal((CHANNELS, OUT)).astype(np.float32)
    shape = [3, CHANNELS] if form == "Gemm" else [2, 3, CHANNELS]
    x, y = ir.val("x", ir.DataType.FLOAT, shape), ir.val("y", ir.DataType.FLOAT)
    weight = ir.val("fc.weight", const_value=ir.tensor(w, name="fc.weight"))
    nodes = [ir.node(form, [x, weight], outputs=[y], name="node_linear")]
    model = ir.Model(ir.Graph([x], [y], nodes=nodes, initializers=[weight], opset_imports={"": 18}), ir_version=10)
    lora, bias = insert_slots(model, "^fc$", ("bias", "lora"))
    assert (lora.kind, bias.kind, bias.bias, bias.a) == ("lora", "bias", "slot.fc.bias", "")
    feeds = {"x": drawn.standard_normal(shape).astype(np.float32)}
    delta, product = drawn.standard_normal(OUT).astype(np.float32), factors(lora, 2)
    frozen = freeze(model, shape[0], None)
    for m in (model, frozen):
        assert worst(run(m, feeds)["y"], feeds["x"] @ w) <= TOLERANCE
        assert worst(run(m, {**feeds, bias.bias: delta})["y"], feeds["x"] @ w + delta) <= TOLERANCE
        both = feeds["x"] @ (w + product[lora.scale] * product[lora.a] @ product[lora.b]) + delta
        assert worst(run(m, {**feeds, **product, bias.bias: delta})["y"], both) <= TOLERANCE


def test_a_layer_without_constant_weights_has_no_slot() -> None:
    """What computes its weights, or gets them fed, is no convolution of ours."""
    model = as_graph(random_layer(2, 3))
    assert [c.module for c in convolutions(model)] == ["features.0"]
    fed = ir.val("fed", ir.DataType.FLOAT, [OUT, CHANNELS, 3, 3])
    model.graph.inputs.append(fed)
    model.graph[0].replace_input_with(1, fed)
    assert convolutions(model) == []


@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_only_matrices_are_summed_over_the_rank(groups: int) -> None:
    """At rank 0 onnxruntime leaves what a convolution or a batched MatMul makes of nothing as the memory was."""
    model = as_graph(random_layer(2, 3, out=8, groups=groups))
    insert_slots(model, "features")
    frozen = freeze(model, BATCH, None)
    summed = [node for node in frozen.graph if node.op_type in {"MatMul", "Conv"} and "r_0" in dims(node.inputs[0])[1:]]
    assert [(node.op_type, len(dims(node.inputs[0]))) for node in summed] == [("MatMul", 2)]


def dims(value: ir.Value | None) -> list[str]:
    """The dimensions of a value as text."""
    assert value is not None
    assert value.shape is not None
    return [str(dim) for dim in value.shape]


FLOOR = """
import sys, numpy as np, onnxruntime as ort
folder = sys.argv[1]
fed = dict(np.load(folder + "/fed.npz"))
for rank in (0, 1, 3):
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = level, 3
        session = ort.InferenceSession(folder + "/model.onnx", options, providers=["CPUExecutionProvider"])
        cut = {n: v[:, :rank] if n.endswith(".A") else v[:rank] if n.endswith(".B") else v for n, v in fed.items()}
        np.save(folder + f"/{rank}.{level.name}.npy", session.run(["y"], cut)[0])
"""


@pytest.mark.heavy
@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_the_oldest_runtime_computes_the_same(groups: int, tmp_path: Path, floor_python: Path) -> None:
    """onnxruntime 1.23 runs slots of rank 0, 1 and 3 beside convolutions, as written and optimized."""
    layer, norm = random_layer(2, 3, out=16, padding=1, groups=groups), random_norm(16)
    model = as_graph(layer, norm)
    (site,) = insert_slots(model, "auto" if groups == 1 else "features")
    frozen = freeze(model, BATCH, None)
    ir.save(frozen, tmp_path / "model.onnx")
    fed = {"x": given(), **factors(site, 3)}
    np.savez(tmp_path / "fed.npz", **fed)  # type: ignore[arg-type]  # names of inputs as names of arrays
    subprocess.run([str(floor_python), "-c", FLOOR, str(tmp_path)], check=True, timeout=120)
    for rank in (0, 1, 3):
        cut = {**fed, site.a: fed[site.a][:, :rank], site.b: fed[site.b][:rank]}
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            found = np.load(tmp_path / f"{rank}.{level}.npy")
            assert worst(found, run(frozen, cut)["y"]) <= TOLERANCE
