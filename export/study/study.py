"""The study: a model in every format, run on the same items and in turns on the same clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from console.progress import Progress
from export.sources.captured import Values
from export.study.calls import calls_of, of_size, spread
from export.study.formats import Written, write_format
from export.study.judge import Judge, Tokens
from export.study.machine import machine
from export.study.request import CALIBRATION_CALLS, StudyRequest
from export.study.rows import Row, Timing
from export.study.runs import OPTIONS, judged, timed
from export.study.subject import Kind, Subject, subject
from export.study.task import judge_of, task_of
from export.study.times import shapes
from export.study.variant import Variant
from export.study.workshop import ITEMS, Workshop
from wire.manifest import Options


@dataclass(frozen=True)
class Study:
    """What was found.

    Attributes:
        model: its name.
        task: as asked for.
        source_sha256: of what it was made from.
        kind: `decoder`, `classes` or `features`.
        data: the file.
        items: how many were used.
        of_items: how many the file holds.
        tokens: next tokens that were judged, of a decoder; else 0.
        sequence: tokens of a call, where there is text.
        machine: where the times are from.
        options: session options of all graphs.
        rows: one per format, fp32 first.
        remarks: what a reader has to know.
    """

    model: str
    task: str
    source_sha256: str
    kind: Kind
    data: str
    items: int
    of_items: int
    tokens: int
    sequence: int | None
    machine: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    options: Options = field(default=OPTIONS)


def study(request: StudyRequest, work: Path, bar: Progress) -> Study:
    """Measure every format.

    Args:
        request: see there.
        work: a folder for graphs and weights, owned by the caller.
        bar: told of each format that is written, each call of all formats, and each number of rows.

    Raises:
        UsageError, UnsupportedModel, MissingDependency: the model cannot be captured, or the request does not fit it.
        BadData: items do not fit the model, or a label is none of its classes.
        VerificationError: the model does not run in fp32, or computes no numbers.
        StorageError: the folder cannot be written.
    """
    bar.say("capturing the model")
    model = subject(request.wanted, request.sequence, work / "source")
    frozen = model.frozen(model.batch)
    task = task_of(request, model, frozen)
    whole = calls_of(model, request.items, task.classes, frozen)
    calls = spread(whole, max(request.most_calls, len(request.items)))
    sizes = shapes(model, frozen)
    graphs = {ITEMS: frozen, **{f"rows{rows}": model.frozen(*size) for rows, size in sizes.items()}}
    workshop = Workshop(graphs, _runs(request, model, graphs), work / "workshop", request.keep)
    written = _write(request.formats, workshop, work, bar)
    judge = judge_of(task, request, model.outputs(frozen), calls)
    bar.say("running the items")
    written = judged(written, calls, judge, bar)
    times: dict[int, dict[str, Timing]] = {}
    for rows in sizes:
        bar.say(f"timing calls of {rows} rows")
        times[rows], written = timed(written, rows, of_size(model, calls, graphs[f"rows{rows}"]), request.time_s)
        bar.advance()
    return Study(
        model=model.captured.name,
        task=model.captured.task,
        source_sha256=model.captured.source_sha256,
        kind=task.kind,
        data=request.data.name,
        items=len(request.items),
        of_items=request.items.total,
        tokens=sum(len(call.targets) for call in calls) if task.kind == "decoder" else 0,
        sequence=model.sequence,
        machine=machine(),
        rows=tuple(_row(one, judge, times) for one in written),
        remarks=(*task.remarks, *_chosen(judge, len(calls), len(whole)), *_calibrated(request)),
    )


def _runs(request: StudyRequest, model: Subject, graphs: Mapping[str, ir.Model]) -> dict[str, list[Values]]:
    """What each graph is calibrated with: every item, and for graphs of other sizes one call filled with them."""
    if not any(variant.calibrates for variant in request.formats):
        return {}
    calls = spread(calls_of(model, request.calibration, None, graphs[ITEMS]), CALIBRATION_CALLS)
    filled = {name: [of_size(model, calls, graph)] for name, graph in graphs.items()}
    return {**filled, ITEMS: [call.feeds for call in calls]}


def _write(formats: Sequence[Variant], workshop: Workshop, work: Path, bar: Progress) -> list[Written]:
    written: list[Written] = []
    for variant in formats:
        bar.say(f"writing {variant.name}")
        most = written[0].row.stored_bytes if written else 0
        written.append(write_format(variant, workshop, work / variant.name, most))
        bar.advance()
    return written


def _row(one: Written, judge: Judge, times: Mapping[int, Mapping[str, Timing]]) -> Row:
    if one.row.reason:
        return one.row
    name = one.row.format
    return replace(one.row, quality=judge.of(name), times={rows: found[name] for rows, found in times.items()})


def _chosen(judge: Judge, calls: int, whole: int) -> list[str]:
    """What of the data was left out, since it would have taken too long."""
    told = [f"{calls} of {whole} windows of the texts were judged, evenly"] if calls < whole else []
    if isinstance(judge, Tokens) and judge.every > 1:
        told.append(f"at temperatures, one in {judge.every} of the next tokens was compared")
    return told


def _calibrated(request: StudyRequest) -> list[str]:
    """What is to be said of formats that looked at input."""
    names = [variant.name for variant in request.formats if variant.calibrates]
    if not names:
        return []
    same = set(request.calibration.places) & set(request.items.places)
    whose = "items that are judged, which flatters them" if same else "items that are not judged"
    return [f"{', '.join(names)}: calibrated on {len(request.calibration)} {whose}"]
