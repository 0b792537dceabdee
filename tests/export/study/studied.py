"""Little models and data files to study, and studies that never ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from console.progress import progress
from export.prepare import Wanted
from export.study.data import read_items
from export.study.request import StudyRequest
from export.study.rows import Quality, Row, Share, Timing
from export.study.study import Study, study
from export.study.temperatures import AtTemperature
from export.study.variant import variants
from tests.export.graphs import Builder

TEXTS = (
    "the cat sat on the mat. the dog ran under the tree, and the red cat ran on.",
    "a red cat sat on a blue mat under the trees.",
    "running dogs",
)
EVIL = "<script>alert(1)</script>"


def lines(folder: Path, *texts: str, name: str = "data.txt") -> Path:
    """A text per line."""
    path = folder / name
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def studied(model: Path, data: Path, work: Path, formats: str, task: str = "", **fields: Any) -> Study:
    """A study that spends no time on its clock."""
    wanted = Wanted(str(model), task, targets="", sizes=fields.pop("sizes", {}))
    items = read_items(data)
    request = StudyRequest(wanted, items, data, variants(formats), items, time_s=0.0, **fields)
    with progress("studying", quiet=True) as bar:
        return study(request, work, bar)


def row(found: Study, name: str) -> Row:
    """The row of a format."""
    return next(one for one in found.rows if one.format == name)


def net(path: Path, inputs: int = 64, classes: int = 5, batch: int | str = "batch") -> Path:
    """An ONNX file: x [batch, inputs] to scores [batch, classes] through two products."""
    b = Builder(3)
    x = b.input("x", [batch, inputs])
    hidden = b.op("MatMul", x, b.weight("first.weight", inputs, 64), shape=[batch, 64], name="first")
    bent = b.op("Tanh", hidden, shape=[batch, 64], name="bent")
    y = b.op("MatMul", bent, b.weight("last.weight", 64, classes), shape=[batch, classes], name="last")
    onnx.save(ir.to_proto(b.model(scores=y)), path)
    return path


def arrays(path: Path, count: int, inputs: int = 64, seed: int = 1, **more: Any) -> Path:
    """Normal x float32 [count, inputs]."""
    x = np.random.default_rng(seed).standard_normal((count, inputs)).astype(np.float32)
    np.savez(path, x=x, **more)
    return path


def told(**fields: Any) -> Study:
    """A study of a decoder with a format that is measured, one that computes no numbers and one that is none."""
    at = AtTemperature(0.5, 0.625, 0.75, 0.0875, 0.0123, 21.25)
    fine = Quality(perplexity=17.25, agreement=Share(31, 40), temperatures=(at,))
    times = {1: Timing(0.001, 0.0009, 0.0012, 7), 16: Timing(0.004, 0.004, 0.005, 7)}
    half = {rows: Timing(t.median_s / 2, t.low_s / 2, t.high_s / 2, 7) for rows, t in times.items()}
    rows = (
        Row("fp32", "", 4096 * 1024, {"fp32": 9}, quality=fine, times=times),
        Row("int8", "", 1024 * 1024, {"int8": 7, "fp32": 2}, 41.5, ("layer.1", 39.25), fine, half),
        Row("nf4", "", 512 * 1024, {"nf4": 9}, 20.0, None, Quality(agreement=Share(0, 40), not_numbers=40), half),
        Row("int4", f"no weight can take it: 9 weights {EVIL}"),
    )
    made: dict[str, Any] = {
        "model": f"model {EVIL}", "task": "text-generation", "source_sha256": "0" * 64, "kind": "decoder",
        "data": f"{EVIL}.txt", "items": 3, "of_items": 30, "tokens": 40, "sequence": 16, "machine": "a machine",
        "rows": rows, "remarks": ("a remark",),
    }  # fmt: skip
    return Study(**{**made, **fields})
