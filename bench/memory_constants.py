"""The constants of the memory model, measured on this machine: `python -m bench.memory_constants [--write]`.

Fresh processes that import what a worker imports, and sessions of synthetic graphs: chains of small nodes, whose
tensors weigh next to nothing. What such a session takes is what the runtime takes for itself: a part of its own,
a part per node, a part per kind of operator, whose code is touched. The models that judge the prediction
(`bench.memory_judge`) have no part in it. With --write the numbers go into devices/memory.toml.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from console.table import table
from devices.memory import FILE, IMPORTS
from export.chain import PLAIN
from export.gradient.present import present
from export.measure import Measurer, environment, machine
from export.predict import run_bytes
from export.write import write_graphs
from wire.files import write_atomic

TURNS = 5
LENGTHS = (12, 1212)
# each takes a matrix [8, 8] and perhaps a constant, and gives one
UNARY = ("Neg", "Exp", "Tanh", "Relu", "Sigmoid", "Erf", "Sqrt", "Abs", "Gelu", "Softmax", "Softplus", "Floor")
BINARY = ("Add", "Mul", "Sub", "Div", "MatMul", "Max", "Min", "Pow", "Mod", "PRelu", "Sum", "LayerNormalization")
# what a worker imports; it never loads OpenSSL (edge/worker.py)
WORKER = "import sys; sys.modules['_hashlib'] = None; import edge.jobs, edge.runtime, edge.text; "
NAME = "/encoder/layer.3/attention/self/query/MatMul_output_"
PEAK = "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure what a worker takes beside its graphs.")
    parser.add_argument("--write", action="store_true", help="put the numbers into devices/memory.toml")
    options = parser.parse_args()
    found = {**bases(), **sessions()}
    print(table(["constant", "bytes", "how"], [[name, f"{value:_}", how] for name, (value, how) in found.items()]))
    if options.write:
        write_atomic(FILE, as_toml(found).encode())
    return 0


Found = dict[str, tuple[int, str]]


def bases() -> Found:
    """Processes without a session: as `export.peak` measures graphs, and as a worker is."""
    plain = _median(lambda: measured(chain(UNARY, 1), "tensors")[0])
    pictures = _median(lambda: measured(chain(UNARY, 1), "image")[0])
    worker = _median(lambda: _process(WORKER + PEAK))
    return {
        "base_bytes": (plain, f"VmHWM of a process with {', '.join(IMPORTS['tensors'])}"),
        "pictures_bytes": (pictures - plain, f"the same with {IMPORTS['image'][-1]}"),
        "worker_bytes": (max(0, worker - plain), "a worker's own modules beyond that"),
    }


def sessions() -> Found:
    """What sessions take: one kind of node and many, a short chain and a long one."""
    short, long = LENGTHS
    one = _median(lambda: measured(chain(UNARY[:1], short), "tensors")[1])
    many = _median(lambda: measured(chain(UNARY[:1], long), "tensors")[1])
    shared = _median(lambda: measured(chain(BINARY[:1], long), "tensors")[1])
    owned = _median(lambda: measured(chain(BINARY[:1], long, own=True), "tensors")[1])
    kinds = (*UNARY, *BINARY)
    all_kinds = _median(lambda: measured(chain(kinds, len(kinds)), "tensors")[1])
    node = (many - one) // (long - short)
    operator = (all_kinds - one - (len(kinds) - short) * node) // (len(kinds) - 1)
    return {
        "session_bytes": (one - short * node - operator, "a session that has run, without nodes"),
        "node_bytes": (node, f"a chain of {long} nodes against one of {short}"),
        "tensor_bytes": (
            (owned - shared) // (long - 1),
            f"{long} nodes with a weight each against one for all",
        ),
        "operator_bytes": (operator, f"a chain of {len(kinds)} kinds of node against one of a single kind"),
    }


def chain(kinds: Sequence[str], length: int, *, own: bool = False) -> ir.Model:
    """`length` nodes of these kinds in turn, each reading the one before: x [8, 8] to a value of that shape.

    Names are as long as exporters make them. `own`: every node that reads a constant has one of its own.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="chain")
    square = _square(graph, "square")
    last = ir.val("x", ir.DataType.FLOAT, [8, 8])
    graph.inputs.append(last)
    for index in range(length):
        kind = kinds[index % len(kinds)]
        output = ir.val(f"{NAME}{index}", ir.DataType.FLOAT, [8, 8])
        constant = _square(graph, f"{NAME}{index}.weight") if own and kind in BINARY else square
        inputs = [last, constant] if kind in BINARY else [last]
        attributes = {"fmod": 1} if kind == "Mod" else {}
        graph.append(ir.node(kind, inputs, attributes, outputs=[output], name=f"{NAME}{index}"))
        last = output
    graph.outputs.append(last)
    return ir.Model(graph, ir_version=10)


def _square(graph: ir.Graph, name: str) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(np.eye(8, dtype=np.float32) + 1, name=name))
    graph.register_initializer(value)
    return value


def measured(model: ir.Model, kind: str) -> tuple[int, int]:
    """The peak of a fresh process before the session, and what the session added beside its buffers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_graphs({"g": model}, folder, "g.weights.bin")
        feeds = {"x": np.ones((8, 8), np.float32)}
        peak = Measurer(folder, (PLAIN,), kind).best(folder / "g.onnx", feeds)
    weights = sum(present(value.const_value).nbytes for value in model.graph.initializers.values())
    return peak.base_bytes, peak.growth_bytes - weights - run_bytes(model.graph, PLAIN)


def _median(once: object) -> int:
    return int(statistics.median(once() for _ in range(TURNS)))  # type: ignore[operator]  # functions without names


def _process(program: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    return 1024 * int(done.stdout)


def as_toml(found: Found) -> str:
    """The file, with the machine and the versions."""
    packages = ("numpy", "onnxruntime", "pillow")
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in packages}}
    lines = [
        "# What a worker takes beside its graphs, in bytes. Written by: python -m bench.memory_constants --write",
        f'machine = "{machine()}"',
        "versions = { " + ", ".join(f'{name} = "{value}"' for name, value in versions.items()) + " }",
        "",
        *(f'{name} = {{ value = {value:_}, source = "measured: {how}" }}' for name, (value, how) in found.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
