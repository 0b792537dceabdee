"""Time of a call by rows and format: all formats in turns in one process, one thread, medians.

The rows are those that enter a product: batch x tokens of a text, positions of a picture. A model that has no
call of 1, 16 or 128 rows gets the nearest that it has, under its own number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from export.chain import Graph
from export.gradient.dims import shape_of
from export.sources.captured import Values
from export.study.rows import Timing
from export.study.subject import Subject

ROWS = (1, 16, 128)
WARM_UP = 2
FEWEST, MOST = 5, 101  # runs of each format
BUDGET_S = 1.5  # of each format at one number of rows


def shapes(subject: Subject, frozen: ir.Model) -> dict[int, tuple[int, int | None]]:
    """Batch and tokens by the rows of a call.

    Args:
        subject: the model.
        frozen: its graph for `subject.batch` items.
    """
    found: dict[int, tuple[int, int | None]] = {}
    if subject.sequence is not None:
        for rows in ROWS:
            length = min(rows, subject.sequence)
            found[rows // length * length] = (rows // length, length)
        return found
    each = rows_of(frozen) / subject.batch
    allowed = subject.captured.batches
    for rows in ROWS:
        wanted = max(1, round(rows / each))
        batch = wanted if allowed is None else min(allowed, key=lambda b: abs(b - wanted))
        found[round(batch * each)] = (batch, None)
    return found


def rows_of(frozen: ir.Model) -> int:
    """The rows of the product with the most operations: of a convolution the positions of its output."""
    best, rows = 0, 1
    for node in frozen.graph:
        if node.op_type not in ("MatMul", "FusedMatMul", "Conv") or node.inputs[1] is None:
            continue
        weight, out = node.inputs[1].const_value, shape_of(node.outputs[0])
        if weight is None or out is None:
            continue
        sizes = [size if isinstance(size, int) else 1 for size in out]
        count = sizes[0] * prod(sizes[2:]) if node.op_type == "Conv" else prod(sizes[:-1])
        if count * weight.size > best:
            best, rows = count * weight.size, count
    return rows


def in_turns(graphs: Mapping[str, Graph], feeds: Values, budget_s: float = BUDGET_S) -> dict[str, Timing]:
    """Run every graph on the same input, one after the other, again and again.

    Args:
        graphs: by format.
        feeds: what each is fed.
        budget_s: seconds for each, after which no further turn begins; there are 5 to 101 turns.
    """
    fed = {name: graph.feeds(feeds) for name, graph in graphs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(WARM_UP):
        for name, graph in graphs.items():
            graph.session.run(graph.outputs, fed[name])
    begun = time.perf_counter()
    while _another(seconds, time.perf_counter() - begun, budget_s):
        for name, graph in graphs.items():
            start = time.perf_counter()
            graph.session.run(graph.outputs, fed[name])
            seconds[name].append(time.perf_counter() - start)
    return {name: _timing(runs) for name, runs in seconds.items()}


def _another(seconds: Mapping[str, Sequence[float]], gone_s: float, budget_s: float) -> bool:
    turns = min(map(len, seconds.values()), default=MOST)
    return turns < FEWEST or (turns < MOST and gone_s < budget_s * len(seconds))


def _timing(runs: Sequence[float]) -> Timing:
    low, median, high = (float(v) for v in np.quantile(runs, [0.25, 0.5, 0.75]))
    return Timing(median, low, high, len(runs))
