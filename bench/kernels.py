"""One product per format, measured and predicted: `python -m bench.kernels [--side N] [--turns N] [--clock HZ]`.

A weight of [side, side] in every format and at both accuracy levels, on one thread, in turns; medians of the
processor's time in ms beside what `devices.speed` predicts for this machine. docs/speed.md has the table, and
devices/kernels.py the constants that follow from it.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

from console.table import table
from devices.cores import INT8_PER_FP32
from devices.speed import Cpu, product_ns
from quant.int8 import quantize_rows

ROWS = (1, 16, 128)
NF4 = 1
BLOCK = 32
EXTENSIONS = {"avx_vnni": "avx_vnni", "avx512_vnni": "avx512_vnni", "asimddp": "dotprod", "i8mm": "i8mm"}  # by /proc


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description="One product per format.")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--clock", type=float, default=3.66e9, help="of the core, in Hz")
    parser.add_argument("--flops", type=int, default=32, help="of the core in a cycle, float32")
    options = parser.parse_args()
    cpu = Cpu(_isa(), int(options.clock), _copy_bytes_per_s(), 1, options.flops)
    weight = np.random.default_rng(0).standard_normal((options.side, options.side)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        made = {kind: (_session(model), size) for kind, model, size in _models(weight, Path(name))}
    rows: dict[tuple[str, int], list[str]] = {kind: [] for kind in made}
    for count in ROWS:
        x = np.random.default_rng(1).standard_normal((count, options.side)).astype(np.float32)
        for kind, milliseconds in _timed(made, x, options.turns).items():
            fmt, level = kind
            size = made[kind][1]
            predicted = product_ns(fmt, count, options.side, options.side, cpu, size, level) / 1e6
            rows[kind] += [f"{milliseconds:.2f}", f"{predicted:.2f}"]
    header = ["format", "level", *(word for count in ROWS for word in (f"{count} rows", "predicted"))]
    print(f"{', '.join(sorted(cpu.isa)) or 'no int8 products'}; copies {cpu.copy_bytes_per_s / 1e9:.1f} GB/s")
    print(table(header, [[fmt, str(level), *cells] for (fmt, level), cells in rows.items()]))
    return 0


def _isa() -> frozenset[str]:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii").split())
    return frozenset(name for flag, name in EXTENSIONS.items() if flag in flags and name in INT8_PER_FP32)


def _copy_bytes_per_s() -> int:
    source = np.ones(64 << 20, np.uint8)
    target, taken = np.zeros_like(source), []
    for _ in range(9):
        started = time.process_time()
        np.copyto(target, source)
        taken.append(time.process_time() - started)
    return int(source.size / min(taken))


def _models(weight: NDArray[np.float32], work: Path) -> Iterator[tuple[tuple[str, int], onnx.ModelProto, int]]:
    """Format and accuracy level, a model, bytes of its weight."""
    plain = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight})
    yield ("fp32", 0), plain, weight.nbytes
    half = weight.astype(np.float16)
    cast = [helper.make_node("Cast", ["q"], ["w"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["x", "w"], ["y"])]
    yield ("fp16", 0), _model(cast, {"q": half}), half.nbytes
    yield ("int8", 0), _channels(weight), weight.size
    for bits, fmt in ((4, "int4"), (8, "int8-blocks")):
        for level in (0, 4):
            settings = DefaultWeightOnlyQuantConfig(
                block_size=BLOCK, is_symmetric=True, accuracy_level=level, bits=bits
            )
            blocks = MatMulNBitsQuantizer(_copied(plain), algo_config=settings)
            blocks.process()
            yield (fmt, level), blocks.model.model, weight.size * (bits * BLOCK + 32) // (8 * BLOCK)
    looked_up = MatMulBnb4Quantizer(_copied(plain), NF4, 64)
    looked_up.process()
    yield ("nf4", 0), looked_up.model.model, weight.size * 9 // 16
    onnx.save(plain, work / "plain.onnx")
    quantize_dynamic(work / "plain.onnx", work / "dynamic.onnx", per_channel=True)
    yield ("int8-dynamic", 0), onnx.load(work / "dynamic.onnx"), weight.size


def _channels(weight: NDArray[np.float32]) -> onnx.ModelProto:
    """int8 by output channel, as bundles have it."""
    q, s = quantize_rows(np.ascontiguousarray(weight.T))
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("FusedMatMul", ["x", "w"], ["y"], transB=1, domain="com.microsoft"),
    ]
    return _model(nodes, {"q": q, "s": s, "z": np.zeros(len(s), np.int8)})


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _model(nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", None]) for name in ("x", "y")]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "product", ends[:1], ends[1:], held), opset_imports=opsets, ir_version=10
    )


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Without the optimizer, which would restore weights once and for all."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options)


def _timed(made: dict[tuple[str, int], tuple[Any, int]], x: NDArray[Any], turns: int) -> dict[tuple[str, int], float]:
    taken: dict[tuple[str, int], list[float]] = {kind: [] for kind in made}
    for _ in range(turns + 1):
        for kind, (session, _) in made.items():
            started = time.process_time()
            session.run(None, {"x": x})
            taken[kind].append(1000 * (time.process_time() - started))
    return {kind: statistics.median(values[1:]) for kind, values in taken.items()}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # onnxruntime's tools tell every step
    raise SystemExit(main())
