"""A small bundle made by hand: tanh layers with LoRA slots, a head, and backward graphs derived on paper.

y = tanh(x W + b + s ((x A) B)) per layer; features are the last y; logits = y V + c. Backwards, with g the gradient
of y: g' = g (1 - y y), dB = s (x A)' g', dA = s x' (g' B'), dx = g' W' + s (g' B') A'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wire import manifest as mf
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import Trust, detached
from wire.files import digest
from wire.keys import PrivateKey, new_key

Array = NDArray[Any]
SIDE, PIXELS = 4, 16
SAMPLES, RATE = 800, 8000
VOCABULARY = ("[PAD]", "[UNK]", "red", "green", "blue", "sun", "sea", "leaf")
OPTIONS = mf.Options("disable", "priority", False, True, {"session.intra_op.allow_spinning": "0"})
MODEL = "tiny"


@dataclass
class Weights:
    """What the graphs compute with; the oracles read it too."""

    w: list[Array]
    b: list[Array]
    table: Array  # embedding of the text model

    @property
    def width(self) -> int:
        return int(self.w[-1].shape[1])


@dataclass
class Draft:
    """An ONNX graph under construction."""

    nodes: list[Any] = field(default_factory=list)
    inputs: dict[str, mf.Tensor] = field(default_factory=dict)
    defaults: list[Any] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def op(self, kind: str, *names: str, out: str = "", **attributes: Any) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(names), [out], **attributes))
        return out

    def take(self, name: str, dtype: str, *shape: Any) -> str:
        self.inputs[name] = mf.Tensor(name, dtype, shape)
        return name

    def default(self, name: str, value: Array, *shape: Any) -> str:
        if name not in self.inputs:
            self.take(name, "float32", *shape)
            self.defaults.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def weight(self, name: str, value: Array) -> str:
        self.weights.setdefault(name, value)
        return name


def make_weights(layers: int = 2, width: int = 5, seed: int = 0) -> Weights:
    """Seeded weights."""
    generator = np.random.default_rng(seed)
    sizes = [PIXELS, *([width] * layers)]
    w = [generator.normal(0, 0.4, (i, o)).astype(np.float32) for i, o in pairwise(sizes)]
    b = [generator.normal(0, 0.1, o).astype(np.float32) for o in sizes[1:]]
    return Weights(w, b, generator.normal(0, 1, (len(VOCABULARY), PIXELS)).astype(np.float32))


def make_bundle(
    folder: Path,
    key: PrivateKey | None = None,
    *,
    kind: str = "image",
    labels: Sequence[str] = ("a", "b", "c"),
    segments: Sequence[int] = (1, 1),
    rank: int = 2,
    micro_batch: int = 2,
    forward_batch: int | None = None,
    smaller: Sequence[int] = (),
    budget_bytes: int = 0,
    weights: Weights | None = None,
    frozen: Sequence[int] = (),
    serve: bool = False,
    biases: bool = False,
    device: str = "tester",
    from_features: bool = False,
) -> PrivateKey:
    """Write a signed bundle; returns the publisher's key.

    Args:
        folder: where to.
        key: the publisher's; None makes one.
        kind: "image" (4 x 4 grey), "text", or "sound" (800 samples).
        labels: classes.
        segments: how many layers each segment has.
        rank: the plan's.
        micro_batch: batch of the training bucket.
        forward_batch: batch of a second bucket, for inference only.
        smaller: batches of further training buckets.
        budget_bytes: of the plan; 0 is no budget.
        weights: None makes seeded ones.
        frozen: layers without a slot.
        serve: with graphs without slots.
        biases: with bias slots beside the others.
        device: the profile that it was made for.
        from_features: with a way back from the gradient of features.
    """
    key = key or new_key("publisher", "tester")
    weights = weights or make_weights(sum(segments))
    folder.mkdir(parents=True, exist_ok=True)
    buckets = [mf.Bucket("train", micro_batch, 6 if kind == "text" else None)]
    buckets += [mf.Bucket(f"train{batch}", batch, 6 if kind == "text" else None) for batch in smaller]
    trained = len(buckets)
    if forward_batch:
        buckets.append(mf.Bucket("serve", forward_batch, 6 if kind == "text" else None))
    build = _Build(folder, kind, tuple(labels), tuple(segments), weights, frozenset(frozen), serve, biases)
    made = tuple(build.segment(i, buckets, trained) for i in range(len(segments)))
    returned = build.graph(len(segments) - 1, "from_features", buckets[0]) if from_features else None
    files = [p for p in sorted(folder.iterdir()) if p.name not in (MANIFEST, SIGNATURE)]
    if kind == "text":
        files.append(_tokenizer(folder / "tokenizer.json"))
    golden = folder / "golden.safetensors"
    golden.write_bytes(b"not looked at here")
    plan = mf.Plan(device, "train", "fp32", rank, micro_batch, (), budget_bytes, 0)
    manifest = mf.Manifest(
        mf.SCHEMA,
        "0",
        mf.Model(MODEL, "tiny", "classification", "0" * 64),
        plan,
        tuple(mf.File(p.name, p.stat().st_size, digest(p.read_bytes())) for p in [*files, golden]),
        build.model_inputs(micro_batch),
        tuple(buckets),
        made,
        build.slots,
        mf.Head(weights.width, "head.weight", "head.bias", "features", "logits", made[-1].name, "none"),
        tuple(labels),
        build.preprocess(),
        mf.Golden(golden.name, "train", 1e-5),
        from_features=returned,
    )
    body = mf.to_bytes(manifest)
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))
    return key


def trust_of(key: PrivateKey) -> Trust:
    """The trust in one key."""
    return Trust([key.public])


@dataclass
class _Build:
    folder: Path
    kind: str
    labels: tuple[str, ...]
    segments: tuple[int, ...]
    weights: Weights
    frozen: frozenset[int]
    serve: bool = False
    biases: bool = False

    def layers(self, segment: int) -> range:
        first = sum(self.segments[:segment])
        return range(first, first + self.segments[segment])

    @property
    def slots(self) -> tuple[mf.Slot, ...]:
        return tuple(
            self.slot(k, s, kind)
            for s in range(len(self.segments))
            for k in self.layers(s)
            if k not in self.frozen
            for kind in (("lora", "bias") if self.biases else ("lora",))
        )

    def slot(self, k: int, segment: int, kind: str) -> mf.Slot:
        """One slot of a layer."""
        name, prefix = f"layer.{k}", f"slot.layer.{k}"
        inputs = ("", "", "", f"{prefix}.bias") if kind == "bias" else (f"{prefix}.A", f"{prefix}.B", f"{prefix}.scale")
        sizes = (len(self.weights.w[k]), self.weights.width)
        return mf.Slot(name, name, kind, *sizes, f"segment{segment}", *inputs)  # type: ignore[arg-type]  # one of two kinds

    def learns(self, segment: int) -> bool:
        """Whether this segment or one below it has a slot."""
        return any(k not in self.frozen for s in range(segment + 1) for k in self.layers(s))

    def model_inputs(self, batch: int) -> tuple[mf.Tensor, ...]:
        if self.kind == "image":
            return (mf.Tensor("pixel_values", "float32", (batch, 1, SIDE, SIDE)),)
        if self.kind == "sound":
            return (mf.Tensor("input_values", "float32", (batch, SAMPLES)),)
        return (mf.Tensor("input_ids", "int64", (batch, 6)), mf.Tensor("attention_mask", "int64", (batch, 6)))

    def preprocess(self) -> mf.Preprocess:
        if self.kind == "text":
            return mf.Preprocess("text", ("tokenizer.json",), {"max_length": 6, "pad_id": 0, "pad_token": "[PAD]"})
        if self.kind == "sound":
            return mf.Preprocess("tensors", (), {"sampling_rate": RATE})
        numbers = {"height": SIDE, "width": SIDE, "channels": 1, "mean": [0.5], "std": [0.5], "rescale": 1 / 255}
        return mf.Preprocess("image", (), numbers)

    def segment(self, index: int, buckets: list[mf.Bucket], trained: int) -> mf.Segment:
        name, last = f"segment{index}", index == len(self.segments) - 1
        kinds = ("forward", "serve") if self.serve else ("forward",)
        graphs = [self.graph(index, kind, bucket) for bucket in buckets for kind in kinds]
        if self.learns(index):
            graphs += [self.graph(index, "backward", bucket) for bucket in buckets[:trained]]
        inputs = tuple(t.name for t in self.model_inputs(1)) if index == 0 else (f"cut{index - 1}.0",)
        return mf.Segment(
            name,
            inputs,
            ("features", "logits") if last else (f"cut{index}.0",),
            inputs if index and self.learns(index - 1) else (),
            tuple(dict.fromkeys(s.name for s in self.slots if s.segment == name)),
            tuple(graphs),
            (),
        )

    def graph(self, index: int, kind: str, bucket: mf.Bucket) -> mf.Graph:
        draft, batch = Draft(), bucket.batch
        x = self.entry(draft, index, batch)
        tape: list[tuple[int, str, str]] = []
        for k in self.layers(index):
            y = self.layer(draft, k, x, bare=kind == "serve")
            tape.append((k, x, y))
            x = y
        last = index == len(self.segments) - 1
        if last and kind != "from_features":
            self.head(draft, x)
        if kind not in ("backward", "from_features"):
            outputs = {"features": (batch, self.weights.width), "logits": (batch, len(self.labels))}
            if not last:
                draft.op("Identity", x, out=f"cut{index}.0")
                outputs = {f"cut{index}.0": (batch, self.weights.width)}
        else:
            outputs = self.backward(draft, index, batch, tape, returned=kind == "from_features")
        return self.write(draft, index, kind, bucket, outputs)

    def entry(self, draft: Draft, index: int, batch: int) -> str:
        if index:
            return draft.take(f"cut{index - 1}.0", "float32", batch, self.weights.width)
        for tensor in self.model_inputs(batch):
            draft.take(tensor.name, tensor.dtype, *tensor.shape)
        if self.kind == "image":
            return draft.op("Flatten", "pixel_values")
        if self.kind == "sound":
            parts = draft.op("Reshape", "input_values", draft.weight("parts", np.array([batch, PIXELS, -1])))
            return draft.op("ReduceMean", parts, draft.weight("last", np.array([2])), keepdims=0)
        rows = draft.op("Gather", draft.weight("table", self.weights.table), "input_ids")
        mask = draft.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = draft.op("Unsqueeze", mask, draft.weight("two", np.array([2])))
        one = draft.weight("one", np.array([1]))
        total = draft.op("ReduceSum", draft.op("Mul", rows, mask), one, keepdims=0)
        return draft.op("Div", total, draft.op("ReduceSum", mask, one, keepdims=0))

    def layer(self, draft: Draft, k: int, x: str, *, bare: bool) -> str:
        fan_in, fan_out = self.weights.w[k].shape
        z = draft.op("MatMul", x, draft.weight(f"w{k}", self.weights.w[k]))
        z = draft.op("Add", z, draft.weight(f"b{k}", self.weights.b[k]))
        if k not in self.frozen and not bare:
            if self.biases:
                z = draft.op("Add", z, draft.default(f"slot.layer.{k}.bias", np.zeros(fan_out), fan_out))
            a = draft.default(f"slot.layer.{k}.A", np.zeros((fan_in, 0)), fan_in, f"r_{k}")
            b = draft.default(f"slot.layer.{k}.B", np.zeros((0, fan_out)), f"r_{k}", fan_out)
            scale = draft.default(f"slot.layer.{k}.scale", np.array(1.0))
            z = draft.op("Add", z, draft.op("Mul", draft.op("MatMul", draft.op("MatMul", x, a), b), scale))
        return draft.op("Tanh", z)

    def head(self, draft: Draft, x: str) -> None:
        draft.op("Identity", x, out="features")
        width, classes = self.weights.width, len(self.labels)
        weight = draft.default("head.weight", np.zeros((width, classes)), width, classes)
        bias = draft.default("head.bias", np.zeros(classes), classes)
        draft.op("Add", draft.op("MatMul", "features", weight), bias, out="logits")

    def backward(
        self, draft: Draft, index: int, batch: int, tape: list[tuple[int, str, str]], *, returned: bool
    ) -> dict[str, tuple[Any, ...]]:
        last, outputs = index == len(self.segments) - 1, dict[str, tuple[Any, ...]]()
        if returned:
            g = draft.take("grad.features", "float32", batch, self.weights.width)
        elif last:
            g = self.loss(draft, batch)
            outputs = {"loss": (), "logits": (batch, len(self.labels))}
            outputs |= {
                "grad.head.weight": (self.weights.width, len(self.labels)),
                "grad.head.bias": (len(self.labels),),
            }
        else:
            g = draft.take(f"grad.cut{index}.0", "float32", batch, self.weights.width)
        below = index > 0 and self.learns(index - 1)
        for k, x, y in reversed(tape):
            keep = draft.op("Sub", draft.weight("unit", np.array(1, np.float32)), draft.op("Mul", y, y))
            g = draft.op("Mul", g, keep)
            back = draft.op("MatMul", g, draft.op("Transpose", f"w{k}"))
            if k not in self.frozen and self.biases:
                draft.op(
                    "ReduceSum", g, draft.weight("rows", np.array([0])), keepdims=0, out=f"grad.slot.layer.{k}.bias"
                )
                outputs |= {f"grad.slot.layer.{k}.bias": (len(self.weights.b[k]),)}
            if k not in self.frozen:
                a, b, scale = (f"slot.layer.{k}.{part}" for part in ("A", "B", "scale"))
                gs = draft.op("Mul", g, scale)
                v = draft.op("MatMul", gs, draft.op("Transpose", b))
                u = draft.op("Transpose", draft.op("MatMul", x, a))
                draft.op("MatMul", u, gs, out=f"grad.{b}")
                draft.op("MatMul", draft.op("Transpose", x), v, out=f"grad.{a}")
                back = draft.op("Add", back, draft.op("MatMul", v, draft.op("Transpose", a)))
                fan_in, fan_out = self.weights.w[k].shape
                outputs |= {f"grad.{a}": (fan_in, f"r_{k}"), f"grad.{b}": (f"r_{k}", fan_out)}
            g = back
        if below:
            draft.op("Identity", g, out=f"grad.cut{index - 1}.0")
            outputs[f"grad.cut{index - 1}.0"] = (batch, self.weights.width)
        return outputs

    def loss(self, draft: Draft, batch: int) -> str:
        """The weighted sum of cross-entropies, and the gradient of the features."""
        draft.take("labels", "int64", batch)
        draft.take("weights", "float32", batch)
        axis = draft.weight("axis1", np.array([1]))
        depth = draft.weight("depth", np.array(len(self.labels)))
        onehot = draft.op("OneHot", "labels", depth, draft.weight("values", np.array([0, 1], np.float32)))
        shares = draft.op("LogSoftmax", "logits", axis=1)
        each = draft.op("ReduceSum", draft.op("Mul", onehot, shares), axis, keepdims=0)
        total = draft.op("ReduceSum", draft.op("Mul", each, "weights"), keepdims=0)
        draft.op("Neg", total, out="loss")
        g = draft.op("Sub", draft.op("Exp", shares), onehot)
        g = draft.op("Mul", g, draft.op("Unsqueeze", "weights", axis))
        draft.op("MatMul", draft.op("Transpose", "features"), g, out="grad.head.weight")
        draft.op("ReduceSum", g, draft.weight("rows", np.array([0])), keepdims=0, out="grad.head.bias")
        return draft.op("MatMul", g, draft.op("Transpose", "head.weight"))

    def write(
        self, draft: Draft, index: int, kind: str, bucket: mf.Bucket, outputs: dict[str, tuple[Any, ...]]
    ) -> mf.Graph:
        types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        graph = helper.make_graph(
            draft.nodes,
            f"segment{index}",
            [helper.make_tensor_value_info(t.name, types[t.dtype], t.shape) for t in draft.inputs.values()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
            [*draft.defaults, *(numpy_helper.from_array(v, n) for n, v in draft.weights.items())],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model, full_check=False)
        name = f"segment{index}.{kind}.{bucket.name}.onnx"
        (self.folder / name).write_bytes(model.SerializeToString())
        tensors = tuple(mf.Tensor(n, "float32", s) for n, s in outputs.items())
        listed = "backward" if kind == "from_features" else kind
        return mf.Graph(
            listed,  # type: ignore[arg-type]  # one of the three
            bucket.name,
            name,
            tuple(draft.inputs.values()),
            tensors,
            OPTIONS,
            mf.Measured(0),
        )


def _tokenizer(path: Path) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path))
    return path


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
