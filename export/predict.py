"""The peak of a process that loads a graph and runs it, foretold from the graph and its session options.

peak = base + session + weights + what is fed + what the run's buffers touch. The first two are constants of
`devices.memory`; the last is a replay: every buffer is taken and given back, in the order of the run, from a
twin of the allocator. The graph is the one that the runtime makes of the file under those options.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import ShapeInferencePass

from devices.memory import base_bytes, session_bytes
from export.arena import Arena, Chunk, Heap
from export.gradient.dims import unknown_dims
from export.kernels import INLINED
from export.liveness import steps
from export.packing import UNPACKED, Packing, packing
from export.peak import session_options
from export.values import COST_RANK, value_bytes
from wire.manifest import Options
from wire.record import plain

RUNS = 2  # what the first run leaves in an arena decides where the second one's buffers lie; the third is like it
WEIGHTS_NAME = "session.optimized_model_external_initializers_file_name"
WEIGHTS_FROM = "session.optimized_model_external_initializers_min_size_in_bytes"


def predict(path: Path, options: Options, kind: str = "text", rank: int = COST_RANK) -> dict[str, int]:
    """The parts of the peak of a fresh process that runs a written graph, in bytes; their sum is the prediction.

    Args:
        path: the graph; its weights lie beside it.
        options: of the session.
        kind: of the worker's preprocessing, which decides what it imports.
        rank: what a rank symbol counts.

    Raises:
        UnsupportedModel: a shape is not known.
    """
    given = ir.load(path)
    weights = _weights(given.graph)
    with executed(path, given, options) as graph:
        made = _weights(graph)
        # what was folded is no longer read from its file
        held = sum(size for name, size in weights.items() if name in made)
        folded = sum(made.values()) - sum(size for name, size in made.items() if name in weights)
        packed = packing(graph) if packs(options) else Packing()
        kinds = {(node.domain, node.op_type) for node in graph}
        session = session_bytes(len(graph), len(kinds), len(_weights(graph)))
        activations = run_bytes(graph, options, rank)
    copies = folded + packed.extra
    copies += max(0, packed.while_loading - held - copies - activations)
    return {
        "runtime": base_bytes(kind) + session,
        "weights": held,
        **({"packed copies": copies} if copies else {}),
        "inputs": sum(value_bytes(value, rank) for value in given.graph.inputs),
        "activations": activations,
    }


def packs(options: Options) -> bool:
    """Whether a session packs weights when it is made."""
    return options.config.get(UNPACKED) != "1"


@contextmanager
def executed(path: Path, given: ir.Model, options: Options) -> Iterator[ir.Graph]:
    """The graph that the runtime executes, its nodes in the order of the run.

    In priority order and with all optimizations off that is the file itself. Otherwise the runtime is asked: it
    writes what it made of the file, in its default order.
    """
    inlined = any(node.op_type in INLINED and not node.domain for node in given.graph)
    if options.graph_optimization == "disable" and options.execution_order == "priority" and not inlined:
        yield given.graph
        return
    with tempfile.TemporaryDirectory(prefix=".executed-", dir=path.parent) as folder:
        target = Path(folder) / "executed.onnx"
        chosen = session_options(plain(options))
        chosen.optimized_model_filepath = str(target)
        chosen.add_session_config_entry(WEIGHTS_NAME, "executed.bin")
        chosen.add_session_config_entry(WEIGHTS_FROM, "1024")
        ort.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])
        made = ir.load(target)
        ShapeInferencePass()(made)  # what the runtime put in has no shape yet
        unknown = [value for node in made.graph for value in node.outputs if value.name and not _known(value)]
        yield given.graph if unknown else made.graph


def _known(value: ir.Value) -> bool:
    return value.dtype is not None and not unknown_dims(value)


def run_bytes(graph: ir.Graph, options: Options, rank: int = COST_RANK) -> int:
    """Bytes of pages that runs of a graph touch, without weights and what is fed.

    Args:
        graph: with known shapes, its nodes in the order of the run.
        options: of the session.
        rank: what a rank symbol counts.
    """
    allocator = Arena() if options.cpu_arena else Heap()
    plan = steps(graph, rank, packed=packs(options))
    for _ in range(RUNS):
        held: dict[int, Chunk | None] = {}
        for step in plan:
            early = [allocator.take(size) for size in step.scratch if step.early]
            for buffer in step.takes:
                held[id(buffer)] = allocator.take(buffer.size_bytes)
            for chunk in early or [allocator.take(size) for size in step.scratch]:
                allocator.give(chunk)
            for buffer in step.gives:
                allocator.give(held.pop(id(buffer)))
        for chunk in held.values():
            allocator.give(chunk)
    return allocator.peak_bytes


def _weights(graph: ir.Graph) -> dict[str, int]:
    """Bytes of every weight, as if each of its pages were touched: after some thousand examples, each was."""
    values = (value for value in graph.initializers.values() if not value.is_graph_input())
    return {value.name or "": value.const_value.nbytes for value in values if value.const_value is not None}
