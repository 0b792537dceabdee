"""Bundles to tell about: real little graphs in two segments, with findings as an exporter would leave them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from tests.edge.bundles import make_bundle
from wire.bundle import MANIFEST
from wire.files import digest
from wire.manifest import Chain, Manifest, parse_manifest, to_bytes

MIB = 1 << 20
WEIGHTS = (
    {"name": "w0", "format": "int8", "bytes_before": 4000, "bytes_after": 1100, "relative_error": 0.01},
    {"name": "w1", "format": "int8", "bytes_before": 6000, "bytes_after": 1700, "relative_error": 0.03},
    {"name": "norm", "format": "fp32", "bytes_before": 900, "bytes_after": 900, "reason": "not a matrix"},
)
VERIFIED = {"chain_error": 3e-7, "feature_cosine": 0.995, "gradient_error": {"segment0": 1e-6, "segment1": 2e-6}}
TIED = {"weight": "table", "segments": ["segment0", "segment1"], "bytes": 3 * MIB}


def changed(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Rewrite the manifest of a bundle; `inspect` reads no signature."""
    made = change(parse_manifest((folder / MANIFEST).read_bytes()))
    (folder / MANIFEST).write_bytes(to_bytes(made))
    return made


def told(folder: Path, device: str = "zero", chain: Chain | None = None) -> Path:
    """A bundle of two segments with everything that can be told, and with graphs that were measured."""
    make_bundle(folder, segments=(1, 2), budget_bytes=80 * MIB)
    changed(folder, lambda m: _told(m, device, chain))
    return folder


def _told(m: Manifest, device: str, chain: Chain | None) -> Manifest:
    extra = {"measured_anonymous_bytes": 21 * MIB, "measured_pss_bytes": 60 * MIB}
    figures = {"segment0": (65 * MIB, 66 * MIB), "segment1": (70 * MIB, 77 * MIB)}

    def memory(name: str, graph: Any) -> Any:
        predicted, measured = figures[name]
        told = {"predicted_bytes": predicted, "measured_bytes": measured, "base_bytes": 50 * MIB, "step_s": 0.0125}
        return replace(graph, memory=replace(graph.memory, **told, machine="a bench", extra=extra))

    segments = tuple(replace(s, graphs=tuple(memory(s.name, g) for g in s.graphs)) for s in m.segments)
    plan = {"predicted_by_segment": [66 * MIB, 72 * MIB], "reasons": ["rank 2", "two segments at least"]}
    return replace(
        m,
        plan=replace(m.plan, device=device, quant="int8", predicted_bytes=72 * MIB, extra=plan),
        segments=segments,
        quantization=WEIGHTS,
        chain=chain,
        extra={"verified": VERIFIED, "tied": [TIED]},
    )


def chain_of(folder: Path, devices: tuple[str, ...]) -> list[Path]:
    """Bundles that say they are the stages of one chain (each holds a whole model: nobody runs them here)."""
    return [
        told(folder / f"{at + 1:02}-{device}", device, Chain("line", at, devices, "throughput"))
        for at, device in enumerate(devices)
    ]


def poisoned(folder: Path, words: str) -> Path:
    """A bundle in which `words` stand in every name that an outsider can choose, in its graphs as well."""
    told(folder)
    given = json.loads((folder / MANIFEST).read_bytes())
    names = _free(given)
    (folder / MANIFEST).write_text(json.dumps(_spoken(given, names, words)), encoding="utf-8")
    for path in folder.glob("*.onnx"):
        _rename(path, words)

    def listed(m: Manifest) -> Manifest:
        sums = {f.path: (folder / f.path).read_bytes() for f in m.files}
        return replace(
            m, files=tuple(replace(f, bytes=len(sums[f.path]), sha256=digest(sums[f.path])) for f in m.files)
        )

    changed(folder, listed)
    return folder


FIXED = ("id", "kind", "mode", "graph_optimization", "execution_order", "file", "path", "objective")


def _spoken(value: Any, names: set[str], words: str) -> Any:
    """A manifest with `words` after every value, not key, that is one of the names."""
    if isinstance(value, dict):
        return {k: v if k in FIXED else _spoken(v, names, words) for k, v in value.items()}
    if isinstance(value, list):
        return [_spoken(item, names, words) for item in value]
    return f"{value} {words}" if isinstance(value, str) and value in names else value


def _free(m: dict[str, Any]) -> set[str]:
    """Names in a manifest that the schema leaves free."""
    names = {m["model"]["name"], m["model"]["task"], m["plan"]["device"], "a bench", "int8", "fp32", "none"}
    names |= {*m["labels"], *m["plan"]["reasons"], "not a matrix", "table", "norm", "float32", m["edgequilt"]}
    for segment in m["segments"]:
        names |= {segment["name"], *segment["inputs"], *segment["outputs"]}
    for slot in m["slots"]:
        names |= {slot["name"], slot["module"], slot["a"]}
    return names


def _rename(path: Path, words: str) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = f"/layer.0 {words}/{node.op_type}"
        node.op_type, node.domain = f"{node.op_type} {words}", "elsewhere"
        for i, name in enumerate(node.input):
            node.input[i] = f"{name} {words}"
        for i, name in enumerate(node.output):
            node.output[i] = f"{name} {words}"
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = f"{value.name} {words}"
    onnx.save(model, path)
