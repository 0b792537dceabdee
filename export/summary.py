"""What was exported, in a row per board; what a bundle holds, in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from console.table import mib, table
from wire.bundle import Bundle
from wire.manifest import Manifest

if TYPE_CHECKING:
    from export.pipeline import ExportedBundle


def summary(bundle: ExportedBundle) -> dict[str, Any]:
    """A row: sizes in bytes, losses as shares."""
    manifest = bundle.manifest
    checks = manifest.extra.get("verified", {})
    loss = 1 - checks["feature_cosine"] if "feature_cosine" in checks else None
    return {
        "board": manifest.plan.device,
        "segments": len(manifest.segments),
        "micro_batch": manifest.plan.micro_batch,
        "rank": manifest.plan.rank,
        "budget_bytes": manifest.plan.budget_bytes,
        "predicted_bytes": manifest.plan.predicted_bytes,
        "measured_bytes": bundle.measured_bytes,
        "file_bytes": bundle.file_bytes,
        "quant": manifest.plan.quant,
        "cosine_loss": "-" if loss is None else f"{loss:.2g}",
    }


def words(bundle: Bundle) -> str:
    """A manifest as people read it."""
    m = bundle.manifest
    head = (
        "none" if m.head is None else f"{m.head.features} features to {len(m.labels)} classes, {m.head.pooling} pooling"
    )
    facts = [
        ("model", f"{m.model.name} ({m.model.id}), {m.model.task}"),
        ("source", m.model.source_sha256),
        ("board", f"{m.plan.device}, mode {m.plan.mode}, rank {m.plan.rank}, budget {mib(m.plan.budget_bytes)}"),
        (
            "plan",
            f"{len(m.segments)} segment(s), micro-batch {m.plan.micro_batch}, {mib(m.plan.predicted_bytes)} predicted",
        ),
        ("input", ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in m.inputs)),
        ("head", head),
        ("labels", ", ".join(m.labels[:12]) + (", ..." if len(m.labels) > 12 else "")),
        ("slots", ", ".join(slot.name for slot in m.slots) or "none"),
        ("weights", _weights(m)),
        ("verified", _verified(m)),
        ("bundle", f"{bundle.sha256}, {mib(sum(f.bytes for f in m.files))} in {len(m.files)} files"),
        ("made by", f"edgequilt {m.edgequilt}"),
    ]
    lines = [f"{name:<9} {text}" for name, text in facts]
    return "\n".join([*lines, "", _graphs(m)])


def _weights(manifest: Manifest) -> str:
    formats = Counter(str(record.get("format")) for record in manifest.quantization)
    return ", ".join(f"{count} in {name}" for name, count in formats.items()) or "none listed"


def _verified(manifest: Manifest) -> str:
    checks = manifest.extra.get("verified", {})
    plain = {
        name: max(value.values()) if isinstance(value, dict) and value else value for name, value in checks.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in plain.items() if value != {}) or "-"


def _graphs(manifest: Manifest) -> str:
    rows = []
    for segment in manifest.segments:
        for graph in segment.graphs:
            memory, options = graph.memory, graph.options
            rows.append(
                [
                    segment.name,
                    graph.kind,
                    ", ".join(segment.inputs),
                    mib(memory.predicted_bytes),
                    mib(memory.measured_bytes),
                    "-" if memory.step_s is None else f"{memory.step_s * 1e3:.0f} ms",
                    f"{options.graph_optimization}, {options.execution_order}",
                ]
            )
    return table(["segment", "graph", "reads", "predicted", "measured", "step", "options"], rows)
