"""What the whole model computes, by something that none of our doors has touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from tests.workloads.raw import PLAIN_TASKS, raw_graphs
from tests.workloads.registry import Workload

Values = dict[str, Any]
LOGITS = "logits"


def whole(
    workload: Workload, built: Path, runs: Sequence[Values], states: Sequence[tuple[str, str]], first: Values
) -> list[Values]:
    """All outputs, run by run; `first` are the states before the first run.

    A model that generates is torch's own module, which sees all tokens at once and keeps no cache; every other is the
    exporter's file.
    """
    if workload.task in PLAIN_TASKS:
        return _generated(workload, built, runs)
    [path] = raw_graphs(workload, built)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in found] for found in (session.get_inputs(), session.get_outputs()))
    found, held = [], first
    for feeds in runs:
        given = {**feeds, **held}
        values = dict(zip(outputs, session.run(outputs, {name: given[name] for name in inputs}), strict=True))
        held = {into: values[returned] for into, returned in states}
        found.append(values)
    return found


def _generated(workload: Workload, built: Path, runs: Sequence[Values]) -> list[Values]:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    cached = workload.task.startswith("text-generation")
    model = (AutoModelForCausalLM if cached else AutoModelForSeq2SeqLM).from_pretrained(workload.source(built)).eval()
    with torch.no_grad():
        if not cached:
            return [{LOGITS: model(**{k: torch.tensor(v) for k, v in run.items()}).logits.numpy()} for run in runs]
        tokens = np.concatenate([run["input_ids"] for run in runs], axis=1)
        logits = model(torch.tensor(tokens)).logits.numpy()
    return [{LOGITS: logits[:, [at]]} for at in range(len(runs))]
