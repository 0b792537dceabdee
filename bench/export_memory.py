"""Peak memory of an export above its imports: `python -m bench.export_memory [--sizes 1 3] [--out FILE.json]`.

Synthetic ONNX files with external data: chains of MatMul, Gemm and Conv with so many GiB of weights. Each is exported
by the command in a process of its own, whose own peak (VmHWM, mapped pages included) is followed; children, in which
graphs are verified and measured, have theirs. The imports are measured by importing the same modules in another
process. The bar: peak above imports at most 1.3 times the weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from console.table import mib, table
from wire.files import write_atomic

BAR = 1.3
WIDTH, CHANNELS = 2048, 512  # a row of 2048 is also a picture of 512 x 2 x 2
ROOT = Path(__file__).resolve().parent.parent
# what the process itself reports when it is done: its peak, and what it had imported
EXPORT = """
import json, sys
from edgequilt import main
code = main(sys.argv[2:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
names = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None) and name != "__main__"]
json.dump({"code": code, "peak_bytes": int(peak) * 1024, "modules": names}, open(sys.argv[1], "w"))
"""
IMPORTS = """
import importlib, json, sys
for name in json.load(open(sys.argv[1]))["modules"]:
    try:
        importlib.import_module(name)
    except Exception:
        pass
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
json.dump({"peak_bytes": int(peak) * 1024}, open(sys.argv[2], "w"))
"""


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Peak memory of an export.")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 3], metavar="GIB")
    parser.add_argument("--quant", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--budget", default="2GiB", help="of the board (default: 2GiB)")
    parser.add_argument("--work", type=Path, help="where models and bundles are written and removed")
    parser.add_argument("--out", type=Path, default=Path("build/bench/export_memory.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.work) as name:
            path, weights = synthetic(Path(name), int(size * (1 << 30)))
            for quant in options.quant:
                rows.append({"weights_bytes": weights, "quant": quant, **measured(path, quant, options.budget)})
                print(json.dumps(rows[-1]), file=sys.stderr)
    header = ["weights", "format", "imports", "peak", "above imports", "of the weights", "time"]
    print(table(header, [_row(row) for row in rows]))
    worst = max(row["ratio"] for row in rows)
    print(f"\nat most {worst:.2f} times the weights (bar: {BAR})")
    write_atomic(options.out, json.dumps({"bar": BAR, "rows": rows}, indent=1).encode() + b"\n")
    return 0 if worst <= BAR else 1


def _row(row: dict[str, Any]) -> list[str]:
    above = row["peak_bytes"] - row["imports_bytes"]
    sizes = [mib(row["weights_bytes"]), row["quant"], mib(row["imports_bytes"]), mib(row["peak_bytes"]), mib(above)]
    return [*sizes, f"{row['ratio']:.2f}", f"{row['time_s']:.0f} s"]


def measured(path: Path, quant: str, budget: str) -> dict[str, Any]:
    """Export a file in a process of its own: peak, imports, time, and the ratio to the weights."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        found, base = Path(name) / "found.json", Path(name) / "base.json"
        out = ["--out", str(Path(name) / "out"), "--quant", quant, "--budget", budget, "--json"]
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, str(found), "export", str(path), *out],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        time_s = time.monotonic() - start
        report = json.loads(found.read_text()) if found.exists() else {"code": done.returncode}
        if report["code"]:
            raise SystemExit(f"the export of {path.name} as {quant} ended with code {report['code']}")
        subprocess.run([sys.executable, "-c", IMPORTS, str(found), str(base)], cwd=ROOT, check=True)
        imports = json.loads(base.read_text())["peak_bytes"]
    weights = (path.parent / "weights.bin").stat().st_size
    ratio = (report["peak_bytes"] - imports) / weights
    return {"peak_bytes": report["peak_bytes"], "imports_bytes": imports, "ratio": ratio, "time_s": time_s}


def synthetic(folder: Path, size_bytes: int) -> tuple[Path, int]:
    """An ONNX file with so many bytes of external weights; its path and their exact number.

    Rounds of MatMul [2048, 2048], Gemm (transposed) and Conv [512, 512, 3, 3], each followed by Relu.
    """
    rng, tensors, nodes = np.random.default_rng(0), [], []
    written, at = 0, "x"
    with (folder / "weights.bin").open("wb") as file:

        def weight(name: str, *shape: int) -> str:
            nonlocal written
            fan = shape[0] if len(shape) == 2 else shape[1] * 4
            values = rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)
            tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", written), ("length", values.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            file.write(memoryview(values).cast("B"))
            written += values.nbytes
            tensors.append(tensor)
            return name

        def node(kind: str, inputs: list[str], label: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [label], name=f"/{label}/{kind}", **attributes))
            return label

        for name, shape in (("flat", [-1, WIDTH]), ("picture", [-1, CHANNELS, 2, 2])):
            values = np.array(shape, np.int64)
            tensors.append(onnx.numpy_helper.from_array(values, name))
        block = 0
        while written < size_bytes:
            at = node("MatMul", [at, weight(f"b{block}.m", WIDTH, WIDTH)], f"b{block}.product")
            at = node("Relu", [at], f"b{block}.one")
            at = node("Gemm", [at, weight(f"b{block}.g", WIDTH, WIDTH)], f"b{block}.gemm", transB=1)
            at = node("Relu", [at], f"b{block}.two")
            at = node("Reshape", [at, "picture"], f"b{block}.square")
            at = node("Conv", [at, weight(f"b{block}.c", CHANNELS, CHANNELS, 3, 3)], f"b{block}.conv", pads=[1] * 4)
            at = node("Relu", [at], f"b{block}.three")
            at = node("Reshape", [at, "flat"], f"b{block}.row")
            block += 1
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", WIDTH])
    made = helper.make_tensor_value_info(at, onnx.TensorProto.FLOAT, ["N", WIDTH])
    graph = helper.make_graph(nodes, "chain", [given], [made], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx", written


if __name__ == "__main__":
    raise SystemExit(main())
