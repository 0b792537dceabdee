"""What is asked of a model's outputs: next tokens, classes, or only how near they are to those of fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.study.calls import Call
from export.study.classes import names_of, positions_of
from export.study.data import Items
from export.study.judge import Classes, Features, Judge, Tokens
from export.study.nearest import NearestMean, nearest_mean
from export.study.request import StudyRequest
from export.study.subject import Kind, Subject

EMBEDDING = ("feature-extraction", "image-feature-extraction", "sentence-similarity")


@dataclass(frozen=True)
class Task:
    """What the outputs are asked: the kind, the output that is judged, classes of the items, what is to be said."""

    kind: Kind
    output: str = ""
    classes: NDArray[np.int64] | None = None
    remarks: tuple[str, ...] = ()


def task_of(request: StudyRequest, model: Subject, frozen: ir.Model) -> Task:
    """What a model's outputs can be asked with the data that there is.

    Raises:
        UsageError: more or fewer labels than logits.
        BadData: a label is no class.
    """
    items, own = request.items, model.captured.labels
    if model.is_decoder:
        remark = "labels are not used: a decoder is judged by its next tokens"
        return Task("decoder", remarks=(remark,) if items.labels else ())
    found = model.logits(frozen, named=bool(items.labels or own or request.labels) and not _embeds(model))
    if found is None:
        return _probed(items, model.pooled(frozen)) if items.labels else Task("features")
    names = names_of(request.labels, own, found[1])
    classes = positions_of(items, names, found[1], request.data) if items.labels else None
    return Task("classes", found[0], classes)


def _embeds(model: Subject) -> bool:
    """Whether its task says that its outputs are features."""
    return model.captured.task in EMBEDDING


def _probed(items: Items, output: str) -> Task:
    """Labels of a model without logits: classes are those of the file."""
    classes = np.unique(np.array(items.labels), return_inverse=True)[1].astype(np.int64)
    if not output or nearest_mean(np.zeros((len(items), 1)), classes) is None:
        remark = "labels are not used: the model has no logits [items, classes], and too few classes come twice"
        return Task("features", remarks=(remark,))
    remark = "accuracy is that of the nearest class mean: every second item gives the means, the others are asked"
    return Task("features", output, classes, (remark,))


def judge_of(task: Task, request: StudyRequest, outputs: Sequence[str], calls: Sequence[Call]) -> Judge:
    """Who asks it, of all formats and calls."""
    names = [variant.name for variant in request.formats]
    if task.kind == "decoder":
        return Tokens(names, request.temperatures, sum(len(call.targets) for call in calls))
    if task.kind == "classes":
        return Classes(names, task.output)
    return NearestMean(names, outputs, task.output) if task.output else Features(names, outputs)
