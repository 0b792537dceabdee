"""Hand-made bundles whose answers are sums: what they say next follows on paper.

`cached`: a state holds the tokens so far, the newest last; the next token is the sum of the marked ones modulo the
vocabulary. `prefix`: an encoder segment sums the source, a decoder segment adds the tokens up to each place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wire import manifest as mf
from wire.bundle import MANIFEST, SIGNATURE, Bundle, open_bundle
from wire.envelope import detached
from wire.files import digest
from wire.keys import PrivateKey, new_key

VOCABULARY, CONTEXT, SOURCE, RANK = 11, 8, 4, 2
OPTIONS = mf.Options("disable", "priority", False, True)
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
Spec = dict[str, tuple[str, tuple[int | str, ...]]]


def write_graph(path: Path, nodes: Sequence[Any], inputs: Spec, outputs: Spec, constants: dict[str, Any]) -> mf.Graph:
    """An ONNX file, and its entry in a manifest."""
    graph = helper.make_graph(
        list(nodes),
        path.stem,
        [helper.make_tensor_value_info(n, TYPES[t], s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, TYPES[t], s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    taken, made = (tuple(mf.Tensor(n, t, s) for n, (t, s) in spec.items()) for spec in (inputs, outputs))
    return mf.Graph("forward", "b1", path.name, taken, made, OPTIONS, mf.Measured(0))


def seal(
    folder: Path,
    graphs: Sequence[mf.Graph],
    inputs: Sequence[mf.Tensor],
    outputs: Sequence[mf.Tensor],
    *,
    states: Sequence[mf.State] = (),
    generate: mf.Generate | None = None,
    chain: mf.Chain | None = None,
    budget_bytes: int = 0,
    key: PrivateKey | None = None,
    labels: Sequence[str] = (),
    slots: Sequence[mf.Slot] = (),
) -> Bundle:
    """Write manifest and signature beside the graphs."""
    key = key or new_key("publisher", "tester")
    (folder / "golden.safetensors").write_bytes(b"not looked at here")
    files = [folder / graph.file for graph in graphs] + [folder / "golden.safetensors"]
    own, fed = tuple(slot.name for slot in slots), {name for slot in slots for name in (slot.a, slot.b, slot.scale)}
    sides = [(tuple(t.name for t in g.inputs if t.name not in fed), tuple(t.name for t in g.outputs)) for g in graphs]
    segments = tuple(
        mf.Segment(f"segment{i}", *side, (), own, (g,), ())
        for i, (g, side) in enumerate(zip(graphs, sides, strict=True))
    )
    manifest = mf.Manifest(
        mf.SCHEMA,
        "0",
        mf.Model("sums", "sums", "text-generation", "0" * 64),
        mf.Plan("tester", "serve", "fp32", RANK if slots else 0, 1, (), budget_bytes, 0),
        tuple(mf.File(p.name, p.stat().st_size, digest(p.read_bytes())) for p in files),
        tuple(inputs),
        (mf.Bucket("b1", 1),),
        segments,
        tuple(slots),
        None,
        tuple(labels),
        mf.Preprocess("tensors"),
        mf.Golden("golden.safetensors", "b1", 1e-5),
        outputs=tuple(outputs),
        states=tuple(states),
        generate=generate,
        chain=chain,
    )
    body = mf.to_bytes(manifest)
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))
    return open_bundle(folder, None)


def one_hot(name: str) -> list[Any]:
    """Nodes from a float tensor of sums to logits: 1 for the sum modulo the vocabulary, 0 for others."""
    return [
        helper.make_node("Cast", [name], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mod", ["whole", "vocabulary"], ["token"]),
        helper.make_node("OneHot", ["token", "vocabulary", "off_on"], ["logits"]),
    ]


COUNTED = {"vocabulary": np.array(VOCABULARY, np.int64), "off_on": np.array([0, 1], np.float32)}
LOGITS = mf.Tensor("logits", "float32", (1, 1, VOCABULARY))


def cached(folder: Path, end: Sequence[int] = (), *, slot: bool = False, **rules: Any) -> Bundle:
    """The next token is the sum of all tokens so far modulo the vocabulary, plus its position's zero.

    With a slot, x [1, CONTEXT] the tokens so far at the end and zeros before: the sum and scale ((x A) B), cut off.
    """
    folder.mkdir(parents=True)
    inputs: Spec = {
        "tokens": ("int64", (1, 1)),
        "mask": ("int64", (1, CONTEXT)),
        "held": ("float32", (1, CONTEXT - 1)),
    }
    outputs: Spec = {"logits": ("float32", (1, 1, VOCABULARY)), "held_next": ("float32", (1, CONTEXT - 1))}
    nodes = [
        helper.make_node("Cast", ["tokens"], ["new"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["held", "new"], ["all"], axis=1),
        helper.make_node("Slice", ["all", "one", "far", "one"], ["held_next"]),
        helper.make_node("Cast", ["mask"], ["marks"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["all", "marks"], ["marked"]),
        helper.make_node("ReduceSum", ["marked", "one"], ["total"], keepdims=1),
        *(_beside("marked", "total") if slot else ()),
        *one_hot("all_of_it" if slot else "total"),
    ]
    constants = {**COUNTED, "one": np.array([1]), "far": np.array([1 << 40])}
    given = mf.Slot("sum", "sum", "lora", CONTEXT, 1, "segment0", "sum.A", "sum.B", "sum.scale")
    if slot:
        inputs |= {given.a: ("float32", (CONTEXT, "r")), given.b: ("float32", ("r", 1)), given.scale: ("float32", ())}
        constants |= {given.a: np.zeros((CONTEXT, 0), np.float32), given.b: np.zeros((0, 1), np.float32)}
        constants[given.scale] = np.float32(1)
    graph = write_graph(folder / "segment0.forward.onnx", nodes, inputs, outputs, constants)
    record = mf.Generate("cached", "tokens", "logits", CONTEXT, "mask", end=tuple(end), **rules)
    states = [mf.State("held", "held_next", "float32", (1, CONTEXT - 1))]
    return seal(folder, [graph], graph.inputs[:3], [LOGITS], states=states, generate=record, slots=[given][: int(slot)])


def _beside(x: str, y: str) -> list[Any]:
    """Nodes of a slot at the way from x to y."""
    return [
        helper.make_node("MatMul", [x, "sum.A"], ["low"]),
        helper.make_node("MatMul", ["low", "sum.B"], ["high"]),
        helper.make_node("Mul", ["high", "sum.scale"], ["scaled"]),
        helper.make_node("Add", [y, "scaled"], ["all_of_it"]),
    ]


def prefix(folder: Path, **rules: Any) -> Bundle:
    """An encoder that sums the source; after each place the sum of the source and of the tokens up to there."""
    folder.mkdir(parents=True)
    encoder = write_graph(
        folder / "segment0.forward.onnx",
        [
            helper.make_node("Cast", ["source"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["numbers", "one"], ["cut0.0"], keepdims=1),
        ],
        {"source": ("int64", (1, SOURCE))},
        {"cut0.0": ("float32", (1, 1))},
        {"one": np.array([1])},
    )
    decoder = write_graph(
        folder / "segment1.forward.onnx",
        [
            helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("CumSum", ["numbers", "axis"], ["sums"]),
            helper.make_node("Add", ["sums", "cut0.0"], ["total"]),
            *one_hot("total"),
        ],
        {"cut0.0": ("float32", (1, 1)), "tokens": ("int64", (1, CONTEXT))},
        {"logits": ("float32", (1, CONTEXT, VOCABULARY))},
        {**COUNTED, "axis": np.array(1)},
    )
    record = mf.Generate("prefix", "tokens", "logits", CONTEXT, start=(3,), pad=7, **rules)
    inputs = [encoder.inputs[0], decoder.inputs[1]]
    return seal(folder, [encoder, decoder], inputs, decoder.outputs, generate=record)


def adder(folder: Path, position: int, devices: Sequence[str], chain: str = "c1") -> Bundle:
    """Stage of a chain: total' = total + x; y = total' + 10 per stage."""
    folder.mkdir(parents=True)
    x, y, t = (f"cut{position - 1}.0" if position else "x"), f"cut{position}.0", f"total{position}"
    last = position == len(devices) - 1
    out = "y" if last else y
    graph = write_graph(
        folder / "segment0.forward.onnx",
        [
            helper.make_node("Add", [t, x], [f"{t}_next"]),
            helper.make_node("Add", [f"{t}_next", "ten"], [out]),
        ],
        {x: ("float32", (1, 2)), t: ("float32", (1, 2))},
        {out: ("float32", (1, 2)), f"{t}_next": ("float32", (1, 2))},
        {"ten": np.array([10], np.float32)},
    )
    states = [mf.State(t, f"{t}_next", "float32", (1, 2))]
    place = mf.Chain(chain, position, tuple(devices), "latency")
    outputs = [tensor for tensor in graph.outputs if tensor.name == "y"]
    return seal(folder, [graph], graph.inputs, outputs, states=states, chain=place)
