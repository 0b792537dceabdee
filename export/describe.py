"""The manifest of a bundle from what was planned, built, verified and measured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from devices.plan import Board, Decision
from export.activations.golden import tolerance
from export.build import RETURNED, reports_of
from export.formats.registry import INT8
from export.formats.report import WeightReport
from export.gradient.dims import dtype_of, shape_of
from export.measure import Peak, machine
from export.prepare import Prepared
from export.stage import GOLDEN, Stage
from export.work import works_of
from wire import manifest as m
from wire.borders import Split
from wire.manifest import SCHEMA, Manifest

GOLDEN_TOLERANCE = 1e-4  # of max(1, max|expected|): other processors sum in another order


def describe(
    prepared: Prepared,
    stage: Stage,
    board: Board,
    decision: Decision,
    *,
    name: str,
    labels: Sequence[str],
    files: tuple[m.File, ...],
    measured_bytes: int,
    chain: m.Chain | None = None,
    split: Split | None = None,
    noted: Mapping[str, Any] | None = None,
) -> Manifest:
    """The manifest of one board's bundle, whose worker was measured.

    `chain` says which stage of a chain it is, `split` which front, or whose tail, and `noted` what
    the plan of a fleet says of the board.
    """
    bucket = stage.bucket
    return Manifest(
        schema=SCHEMA,
        edgequilt=_version(),
        model=_model(prepared, name, labels),
        plan=_plan(board, decision, measured_bytes, noted or {}, rounds=stage.key.half),
        files=files,
        inputs=_inputs(prepared, stage),
        buckets=(bucket, *(other.bucket for other in stage.beside)),
        segments=tuple(_segment(stage, number) for number in range(len(stage.pieces))),
        slots=_slots(prepared, stage),
        head=_head(prepared, stage),
        labels=tuple(labels) if _is_last(chain) else (),
        preprocess=_preprocess(prepared, stage),
        golden=m.Golden(GOLDEN, bucket.name, _tolerance(stage)),
        quantization=tuple(
            _weight(report) for report in (*reports_of(stage.pieces), *(file.report for file in stage.tables))
        ),
        outputs=_outputs(prepared, stage),
        states=_states(prepared, stage),
        chain=chain,
        generate=prepared.captured.generate,
        tables=tuple(file.record for file in stage.tables),
        scales=tuple(scales for piece in stage.pieces for scales in piece.scales),
        loss=prepared.captured.loss if _is_last(chain) else None,
        split=split,
        from_features=_from_features(stage),
        extra={"verified": _verified(stage), "tied": _tied(stage), **_tables_in(prepared, stage)},
    )


def _tolerance(stage: Stage) -> float:
    return tolerance((piece.shipped["forward"].graph for piece in stage.pieces), GOLDEN_TOLERANCE)


def _model(prepared: Prepared, name: str, labels: Sequence[str]) -> m.Model:
    """The id is the same for every board of one export: of source, task, labels and slots, not of the plan."""
    captured = prepared.captured
    slots = [[s.name, s.features_in, s.features_out, *([] if s.kind == "lora" else [s.kind])] for s in prepared.sites]
    same = json.dumps([captured.source_sha256, captured.task, list(labels), slots, _length(prepared)])
    short = re.sub(r"[^a-z0-9._-]+", "-", name.lower().rpartition("/")[2]).strip("-._")[:40] or "model"
    digest = hashlib.sha256(same.encode()).hexdigest()[:12]
    return m.Model(f"{short}-{digest}", name, captured.task, captured.source_sha256)


def _length(prepared: Prepared) -> int | None:
    """The tokens of a text, where they are part of what a model is: a decoder's adapter fits any number of them."""
    return None if prepared.captured.loss is not None else prepared.sequence


def _plan(board: Board, decision: Decision, measured_bytes: int, noted: Mapping[str, Any], *, rounds: bool) -> m.Plan:
    extra: dict[str, Any] = {
        "measured_bytes": measured_bytes,
        "predicted_by_segment": list(decision.predicted_bytes),
        "reasons": list(decision.reasons),
    }
    if rounds:
        extra["train_activations"] = INT8
    if board.profile not in ("", board.name):
        extra["profile"] = board.profile
    ranks = noted.get("ranks", {})
    extra |= {name: value for name, value in noted.items() if name != "ranks"}
    return m.Plan(
        device=board.name,
        mode=board.mode,  # type: ignore[arg-type]  # the command line allows the three modes only
        quant=board.quant,
        rank=max(ranks.values(), default=decision.rank),
        micro_batch=decision.micro_batch,
        cuts=decision.cuts,
        budget_bytes=board.budget_bytes,
        predicted_bytes=max(decision.predicted_bytes),
        ranks=dict(ranks),
        extra=extra,
    )


def _tensor(value: ir.Value) -> m.Tensor:
    return m.Tensor(value.name or "", dtype_of(value).numpy().name, tuple(shape_of(value) or ()))


def _inputs(prepared: Prepared, stage: Stage) -> tuple[m.Tensor, ...]:
    """What a model takes of the outside: neither boundaries nor states nor slots nor head; ids, and not their rows."""
    known: dict[str, m.Tensor] = {}
    batch = stage.key.micro_batch
    ids = prepared.taken(batch).ids
    whole = {str(value.name): value for value in prepared.whole(batch).graph.inputs}
    states = {pair.input for pair in prepared.captured.states}
    for piece in stage.pieces:
        for value in piece.shipped["forward"].graph.inputs:
            if not value.is_initializer() and value.name not in states | {*piece.segment.entering}:
                fed = whole.get(ids.get(value.name or "", ""), value)
                known.setdefault(fed.name or "", _tensor(fed))
    order = [value.name for value in prepared.captured.model.graph.inputs]
    return tuple(sorted(known.values(), key=lambda tensor: order.index(tensor.name)))


def _tables_in(prepared: Prepared, stage: Stage) -> dict[str, Any]:
    """Large tables that stayed in the graphs of a stage though they were to leave, and why."""
    held = {str(name) for piece in stage.pieces for name in piece.segment.model.graph.initializers}
    stayed = prepared.taken(stage.key.micro_batch).stayed
    found = [{"weight": name, "reason": reason} for name, reason in stayed if name in held]
    return {"tables_in": found} if found else {}


def _tied(stage: Stage) -> list[dict[str, Any]]:
    """Weights that several segments read, each of which stores its own copy: name, segments, bytes of one copy."""
    stored = {report.name: report.bytes_after for report in reports_of(stage.pieces)}
    where: dict[str, list[str]] = {}
    for piece in stage.pieces:
        for name in piece.segment.model.graph.initializers:
            if name in stored:
                where.setdefault(name, []).append(piece.segment.name)
    return [{"weight": n, "segments": s, "bytes": stored[n]} for n, s in where.items() if len(s) > 1]


def _outputs(prepared: Prepared, stage: Stage) -> tuple[m.Tensor, ...]:
    """What a model gives, in its own order, without states."""
    made = {v.name: _tensor(v) for piece in stage.pieces for v in piece.shipped["forward"].graph.outputs}
    states = {pair.output for pair in prepared.captured.states}
    order = [value.name for value in prepared.frozen(stage.key.micro_batch).graph.outputs]
    return tuple(made[name] for name in order if name in made and name not in states)


def _states(prepared: Prepared, stage: Stage) -> tuple[m.State, ...]:
    """Those that these segments read or make; one that crosses between boards both ways is in the bundles of both."""
    graphs = [piece.shipped["forward"].graph for piece in stage.pieces]
    taken = {v.name: _tensor(v) for graph in graphs for v in graph.inputs}
    given = {v.name: _tensor(v) for graph in graphs for v in graph.outputs}
    pairs = [(pair, taken.get(pair.input) or given.get(pair.output)) for pair in prepared.captured.states]
    return tuple(m.State(pair.input, pair.output, t.dtype, t.shape) for pair, t in pairs if t is not None)


def _segment(stage: Stage, number: int) -> m.Segment:
    """A segment with its graphs for every bucket, those of the plan's first."""
    piece = stage.pieces[number]
    inputs = [v.name or "" for v in piece.shipped["forward"].graph.inputs if not v.is_initializer()]
    segment = piece.segment
    slots = tuple(dict.fromkeys(name.removeprefix("slot.").rpartition(".")[0] for name in segment.adapters))
    graphs = tuple(
        _graph(one, one.pieces[number].shipped[kind], kind, path, options)
        for one in (stage, *stage.beside)
        for kind, path, options in one.links[number].graphs()
        if kind != RETURNED
    )
    weights = (f"{segment.name}.weights.bin",)
    return m.Segment(segment.name, tuple(inputs), segment.leaving, segment.differentiable, slots, graphs, weights)


def _from_features(stage: Stage) -> m.Graph | None:
    """Of a tail; kind `backward`, though no segment lists it."""
    piece, link = stage.pieces[-1], stage.links[-1]
    if link.returned is None:
        return None
    return _graph(stage, piece.shipped[RETURNED], "backward", link.returned, link.returned_options)


def _graph(stage: Stage, model: ir.Model, kind: str, path: Path, options: m.Options) -> m.Graph:
    return m.Graph(
        kind=kind,  # type: ignore[arg-type]  # one of those that links have
        bucket=stage.bucket.name,
        file=path.name,
        inputs=tuple(_tensor(v) for v in model.graph.inputs),
        outputs=tuple(_tensor(v) for v in model.graph.outputs),
        options=options,
        memory=_memory(stage.predicted[path.name], stage.peaks[path.name]),
        work=works_of(model.graph),
    )


def _verified(stage: Stage) -> dict[str, Any]:
    """What was found out, without buckets that did not fit this board."""
    there = {other.bucket.name for other in stage.beside}
    checks = {name: value for name, value in stage.checks.items() if name != "buckets"}
    found = {name: value for name, value in stage.checks.get("buckets", {}).items() if name in there}
    return {**checks, "buckets": found} if found else checks


def _memory(parts: dict[str, int], peak: Peak) -> m.Measured:
    extra = {"measured_anonymous_bytes": peak.peak_anon_bytes, "base_anonymous_bytes": peak.base_anon_bytes}
    extra |= {"measured_pss_bytes": peak.pss_bytes, "base_pss_bytes": peak.base_pss_bytes}
    return m.Measured(
        predicted_bytes=sum(parts.values()),
        measured_bytes=peak.peak_bytes,
        base_bytes=peak.base_bytes,
        step_s=peak.step_s,
        machine=machine(),
        extra={"parts": parts, **extra, "threads": 1},
    )


def _slots(prepared: Prepared, stage: Stage) -> tuple[m.Slot, ...]:
    where = {name: piece.segment.name for piece in stage.pieces for name in piece.segment.adapters}
    sites = [(site, where.get(site.a or site.bias)) for site in prepared.sites]
    known = [({n: v for n, v in asdict(s).items() if n != "weight"}, segment) for s, segment in sites]
    return tuple(m.Slot(segment=segment, **site) for site, segment in known if segment is not None)


def _head(prepared: Prepared, stage: Stage) -> m.Head | None:
    h, last = prepared.head, stage.pieces[-1].segment
    if h is None or h.logits_output not in last.leaving:
        return None
    return m.Head(h.features, h.weight, h.bias, h.features_output, h.logits_output, last.name, h.pooling)


def _is_last(chain: m.Chain | None) -> bool:
    return chain is None or chain.position == len(chain.devices) - 1


def _is_first(stage: Stage) -> bool:
    """Whether samples enter here; a later board of a chain gets tensors."""
    return not stage.pieces[0].segment.entering


def _preprocess(prepared: Prepared, stage: Stage) -> m.Preprocess:
    given = prepared.captured.preprocess
    if not _is_first(stage):
        return m.Preprocess("tensors")
    return m.Preprocess(given.kind, tuple(path.name for path in given.files), _plain(given.parameters))


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """Without absent values, which the manifest leaves out."""
    return {key: value for key, value in table.items() if value is not None and value != ""}


def _weight(report: WeightReport) -> dict[str, Any]:
    """A report for the manifest: a ratio that is infinite because nothing was lost is left out."""
    table = _plain(asdict(replace(report, layout=None)))
    return {key: value for key, value in table.items() if value != float("inf")}


def _version() -> str:
    try:
        return version("edgequilt")
    except PackageNotFoundError:
        return "0"


def blobs(prepared: Prepared, stage: Stage) -> list[Path]:
    """Every file of the stage and of the preprocessing that goes into a bundle."""
    graphs = [path for one in (stage, *stage.beside) for link in one.links for _, path, _ in link.graphs()]
    weights = [stage.folder / f"{link.name}.weights.bin" for link in stage.links]
    files = prepared.captured.preprocess.files if _is_first(stage) else ()
    return [*graphs, *weights, *(file.path for file in stage.tables), stage.golden, *files]
