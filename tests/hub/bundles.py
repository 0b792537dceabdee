"""A minimal signed bundle for tests of the hub: two slots, four features, three labels, no real graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wire import manifest as m
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import detached
from wire.files import digest
from wire.keys import PrivateKey

LABELS = ("apple", "pear", "plum")
SLOTS = {"layer.0.query": (8, 6), "layer.1.value": (6, 8)}
FEATURES = 5
ANY = "0" * 64


def manifest(
    slots: dict[str, tuple[int, int]] = SLOTS,
    labels: tuple[str, ...] = LABELS,
    features: int = FEATURES,
    device: str = "raspberry-pi-4-2gb",
    model: str = "tiny",
    biases: dict[str, int] | None = None,
    scales: dict[str, tuple[int, ...]] | None = None,
) -> tuple[m.Manifest, dict[str, bytes]]:
    """A manifest and the files that it lists."""
    files = {"segment-0.onnx": b"not a graph, and nobody here looks", "golden.safetensors": b"nor this"}
    options = m.Options("all", "default", memory_pattern=False, cpu_arena=False)
    adapted = [
        tensor
        for name, (rows, columns) in slots.items()
        for tensor in (
            m.Tensor(f"{name}/A", "float32", (rows, "r")),
            m.Tensor(f"{name}/B", "float32", ("r", columns)),
            m.Tensor(f"{name}/s", "float32", ()),
        )
    ]
    adapted += [m.Tensor(f"{name}/bias", "float32", (size,)) for name, size in (biases or {}).items()]
    graph = m.Graph("forward", "b1", "segment-0.onnx", tuple(adapted), (), options, m.Measured(1))
    moved = tuple(m.Tensor(f"{name}/F", "float32", ("r",) * len(shape)) for name, shape in (scales or {}).items())
    graphs = (graph, replace(graph, kind="scales", inputs=(*adapted, *moved))) if scales else (graph,)
    made = m.Manifest(
        schema=1,
        edgequilt="0",
        model=m.Model(model, "Tiny", "text-classification", ANY),
        plan=m.Plan(device, "train", "fp32", 4, 1, (), 1 << 20, 1 << 19),
        files=tuple(m.File(name, len(data), digest(data)) for name, data in files.items()),
        inputs=(m.Tensor("x", "float32", ("batch", 8)),),
        buckets=(m.Bucket("b1", 1),),
        segments=(m.Segment("segment-0", ("x",), ("logits",), (), tuple(slots), graphs, ()),),
        slots=tuple(
            m.Slot(name, f"encoder.{name}", "lora", rows, columns, "segment-0", f"{name}/A", f"{name}/B", f"{name}/s")
            for name, (rows, columns) in slots.items()
        )
        + tuple(
            m.Slot(name, f"encoder.{name}", "bias", 1, size, "segment-0", "", "", "", f"{name}/bias")
            for name, size in (biases or {}).items()
        ),
        head=m.Head(features, "head/W", "head/b", "features", "logits", "segment-0", "none"),
        scales=tuple(
            m.Scales(f"{name}/F", name, "int4", "segment-0", shape, digest(name.encode()))
            for name, shape in (scales or {}).items()
        ),
        labels=labels,
        preprocess=m.Preprocess("text"),
        golden=m.Golden("golden.safetensors", "b1", 1e-5),
    )
    return made, files


def write_bundle(folder: Path, key: PrivateKey, made: m.Manifest, files: dict[str, bytes]) -> Path:
    """Write and sign a bundle."""
    folder.mkdir(parents=True)
    body = m.to_bytes(made)
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
