"""Kernel by kernel: the bytes that a run is said to take against those that onnxruntime takes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from export.chain import PLAIN
from export.measure import environment
from export.predict import run_bytes

MIB = 1 << 20
F, I8, U8, I64 = ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT64
CUBE, WIDE = [64, 128, 128], [1, 64, 128, 128]  # 4 MiB of floats each
WITHOUT_ARENA = replace(PLAIN, cpu_arena=False)


@dataclass(frozen=True)
class Case:
    """One node between two copies: x goes in by Neg, so that a kernel may write over it, and comes out by Neg."""

    op: str
    x: list[int] = field(default_factory=lambda: CUBE)
    y: list[int] = field(default_factory=lambda: CUBE)
    weights: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    first: bool = True  # x is the first input


def weight(*shape: int) -> np.ndarray:
    """Positive floats, so that roots and powers are numbers."""
    return np.random.default_rng(1).uniform(0.5, 1, shape).astype(np.float32)


def conv(channels: int, size: int, filters: int, kernel: int, *, stride: int = 1, group: int = 1, pad: int = 0) -> Case:
    """A convolution over pictures [1, channels, size, size]."""
    out = (size + 2 * pad - kernel) // stride + 1
    given = {"strides": [stride] * 2, "pads": [pad] * 4, "group": group}
    w = weight(filters, channels // group, kernel, kernel)
    return Case("Conv", [1, channels, size, size], [1, filters, out, out], (w,), given)


def recurrent(op: str, gates: int, directions: int = 1) -> Case:
    """1000 steps of 8 items of 64 features to 128."""
    w, r = weight(directions, gates * 128, 64), weight(directions, gates * 128, 128)
    given = {"hidden_size": 128, "direction": "bidirectional" if directions == 2 else "forward"}
    return Case(op, [1000, 8, 64], [1000, directions, 8, 128], (w, r), given)


CASES = {
    **{op: Case(op) for op in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "HardSigmoid")},
    **{op: Case(op) for op in ("Exp", "Sqrt", "Erf", "Gelu", "Abs", "Softmax", "LogSoftmax", "LpNormalization")},
    **{op: Case(op, weights=(weight(128),)) for op in ("Add", "Mul", "Sub", "Div", "PRelu", "LayerNormalization")},
    **{op: Case(op, weights=(weight(1),)) for op in ("Pow", "Max", "Min", "Sum")},
    "Softmax over another axis": Case("Softmax", attributes={"axis": 1}),
    "Clip": Case("Clip", weights=(np.float32(0), np.float32(1))),
    "Transpose": Case("Transpose", y=[128, 64, 128], attributes={"perm": [1, 0, 2]}),
    "Reshape": Case("Reshape", y=[8192, 128], weights=(np.array([8192, 128]),)),
    "Expand": Case("Expand", [1, 128, 128], weights=(np.array(CUBE),)),
    "Where": Case("Where", weights=(np.ones(CUBE, bool), weight(1)), first=False),
    "Slice": Case("Slice", y=[32, 128, 128], weights=(np.array([0]), np.array([32]))),
    "Gather": Case("Gather", weights=(np.arange(64),)),
    "Pad": Case("Pad", y=[64, 130, 130], weights=(np.array([0, 1, 1, 0, 1, 1]),)),
    "ReduceMean": Case("ReduceMean", y=[64, 1, 128], weights=(np.array([1]),)),
    "MatMul": Case("MatMul", y=[64, 128, 256], weights=(weight(128, 256),)),
    "Gemm": Case("Gemm", [1024, 512], [1024, 1024], (weight(1024, 512),), {"transB": 1}),
    "BatchNormalization": Case("BatchNormalization", WIDE, WIDE, tuple(weight(64) for _ in range(4))),
    "InstanceNormalization": Case("InstanceNormalization", WIDE, WIDE, (weight(64), weight(64))),
    "MeanVarianceNormalization": Case("MeanVarianceNormalization", WIDE, WIDE),
    "LRN": Case("LRN", WIDE, WIDE, attributes={"size": 5}),
    "MaxPool": Case("MaxPool", WIDE, [1, 64, 64, 64], attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
    "AveragePool": Case("AveragePool", WIDE, [1, 64, 64, 64], attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
    "GlobalAveragePool": Case("GlobalAveragePool", WIDE, [1, 64, 1, 1]),
    "Resize": Case(
        "Resize", WIDE, [1, 64, 256, 256], (weight(0), np.array([1, 1, 2, 2], np.float32)), {"mode": "linear"}
    ),
    "DepthToSpace": Case("DepthToSpace", WIDE, [1, 16, 256, 256], attributes={"blocksize": 2}),
    "Conv 3 x 3": conv(32, 128, 64, 3, pad=1),
    "Conv 3 x 3 in steps of 2": conv(64, 128, 64, 3, stride=2, pad=1),
    "Conv 1 x 1": conv(64, 128, 64, 1),
    "Conv 1 x 1 in steps of 2": conv(64, 128, 64, 1, stride=2),
    "Conv by channel": conv(64, 128, 64, 3, pad=1, group=64),
    "Conv of more filters than pixels": conv(512, 14, 1024, 3, pad=1),
    "Conv in groups of more filters than pixels": conv(512, 14, 1024, 3, pad=1, group=2),
    "ConvTranspose": Case(
        "ConvTranspose", [1, 64, 64, 64], [1, 32, 128, 128], (weight(64, 32, 2, 2),), {"strides": [2, 2]}
    ),
    "ConvTranspose in groups": Case(
        "ConvTranspose", [1, 64, 64, 64], [1, 64, 128, 128], (weight(64, 32, 2, 2),), {"strides": [2, 2], "group": 2}
    ),
    "LSTM": recurrent("LSTM", 4),
    "LSTM both ways": recurrent("LSTM", 4, 2),
    "GRU": recurrent("GRU", 3),
    "GRU both ways": recurrent("GRU", 3, 2),
    "RNN": recurrent("RNN", 1),
    "RNN both ways": recurrent("RNN", 1, 2),
    "Einsum": Case(
        "Einsum", y=[64, 128, 128], weights=(weight(64, 128, 128),), attributes={"equation": "bik,bjk->bij"}
    ),
    "MatMulNBits": Case(
        "MatMulNBits",
        [128, 1024],
        [128, 1024],
        (np.ones((1024, 32, 16), np.uint8), weight(1024 * 32)),
        {"K": 1024, "N": 1024, "bits": 4, "block_size": 32},
        "com.microsoft",
    ),
    "MatMulNBits of 8 bits": Case(
        "MatMulNBits",
        [128, 1024],
        [128, 1024],
        (np.ones((1024, 8, 128), np.uint8), weight(1024 * 8)),
        {"K": 1024, "N": 1024, "bits": 8, "block_size": 128},
        "com.microsoft",
    ),
    "MatMulBnb4": Case(
        "MatMulBnb4",
        [128, 1024],
        [128, 1024],
        (np.ones(1024 * 512, np.uint8), weight(1024 * 16)),
        {"K": 1024, "N": 1024, "quant_type": 1, "block_size": 64},
        "com.microsoft",
    ),
    "DynamicQuantizeMatMul": Case(
        "DynamicQuantizeMatMul",
        [1024, 1024],
        [1024, 1024],
        (np.ones((1024, 1024), np.int8), weight(1024)),
        domain="com.microsoft",
    ),
}


def graph_of(case: Case) -> ir.Model:
    """x -> Neg -> the node -> Neg -> y."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21, "com.microsoft": 1}, name="kernel")
    x = ir.val("x", F, case.x)
    graph.inputs.append(x)
    moved, made, y = ir.val("moved", F, case.x), ir.val("made", F, case.y), ir.val("y", F, case.y)
    constants = []
    for index, array in enumerate(case.weights):
        value = ir.val(f"w{index}", const_value=ir.tensor(np.asarray(array), name=f"w{index}"))
        graph.register_initializer(value)
        constants.append(value)
    inputs = [moved, *constants] if case.first else [constants[0], moved, *constants[1:]]
    graph.append(ir.node("Neg", [x], outputs=[moved]))
    graph.append(ir.node(case.op, inputs, case.attributes, domain=case.domain, outputs=[made]))
    graph.append(ir.node("Neg", [made], outputs=[y]))
    graph.outputs.append(y)
    return ir.Model(graph, ir_version=10)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What each graph takes in one process that runs them all."""
    folder = tmp_path_factory.mktemp("kernels")
    paths = []
    for number, case in enumerate(CASES.values()):
        paths.append(folder / f"{number}.onnx")
        ir.save(graph_of(case), paths[-1])
    command = [sys.executable, "-m", "tests.export.kernel_runs", *map(str, paths)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: line["taken_bytes"] for name, line in zip(CASES, found, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_a_run_takes_what_it_is_said_to(name: str, taken: dict[str, int]) -> None:
    """Outputs, what is written over, and what a kernel takes meanwhile: within 3 % and 0.2 MiB of the process."""
    predicted = run_bytes(graph_of(CASES[name]).graph, WITHOUT_ARENA)
    assert abs(predicted - taken[name]) <= 0.03 * taken[name] + 0.2 * MIB, (predicted / MIB, taken[name] / MIB)
