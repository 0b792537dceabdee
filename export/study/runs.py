"""Graphs of all formats side by side: the same calls through each, and the same clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from console.errors import VerificationError
from console.progress import Progress
from export.chain import Graph
from export.sources.captured import Values
from export.sources.folder import first_line
from export.study.calls import Call
from export.study.formats import Written
from export.study.judge import Judge
from export.study.rows import Timing
from export.study.times import in_turns
from export.study.variant import FP32
from export.study.workshop import ITEMS
from wire.manifest import Options

# onnxruntime at its best for weights of any format; without the last entry it would round the activations of some
# products to 8 bits, which belongs to formats that say so
OPTIONS = Options(
    graph_optimization="all",
    execution_order="default",
    memory_pattern=True,
    cpu_arena=True,
    config={"session.intra_op.allow_spinning": "0", "session.qdq_matmulnbits_accuracy_level": "0"},
)


def judged(written: Sequence[Written], calls: Sequence[Call], judge: Judge, bar: Progress) -> list[Written]:
    """Every call through every format, to the judge; a format that does not run gets a reason.

    Raises:
        VerificationError: fp32 does not run, or computes no numbers.
    """
    kept, sessions = _opened(written, ITEMS)
    for call in calls:
        outputs: dict[str, Values] = {}
        for name, graph in list(sessions.items()):
            values, reason = _tried(graph, call.feeds)
            if reason:
                kept = [_refused(one, reason) if one.row.format == name else one for one in kept]
                del sessions[name]
            else:
                outputs[name] = values
        judge.add(call, outputs)
        bar.advance()
    return kept


def timed(
    written: Sequence[Written], rows: int, feeds: Values, time_s: float
) -> tuple[dict[str, Timing], list[Written]]:
    """Times of the graph for calls of some rows, by format; a format that does not run gets a reason."""
    kept, sessions = _opened(written, f"rows{rows}")
    for name, graph in list(sessions.items()):
        _, reason = _tried(graph, feeds)
        if reason:
            kept = [_refused(one, reason) if one.row.format == name else one for one in kept]
            del sessions[name]
    return in_turns(sessions, feeds, time_s), kept


def _opened(written: Sequence[Written], graph: str) -> tuple[list[Written], dict[str, Graph]]:
    """Sessions of one graph of every format; a format that has none gets a reason."""
    kept, sessions = [], {}
    for one in written:
        session, reason = _tried(Graph, one.graphs[graph], OPTIONS) if one.graphs else (None, "")
        kept.append(_refused(one, reason) if reason else one)
        if session is not None:
            sessions[one.row.format] = session
    return kept, sessions


def _tried(run: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What it returns, or what onnxruntime says."""
    try:
        return run(*arguments), ""
    except Exception as error:  # noqa: BLE001  # a runtime's errors have no common class
        return None, f"onnxruntime does not run it ({first_line(error)})"


def _refused(one: Written, reason: str) -> Written:
    """A format without graphs.

    Raises:
        VerificationError: it is fp32, with which all others are compared.
    """
    if one.row.format == FP32:
        raise VerificationError(f"expected the model to run in fp32, found that {reason}; is the data of this model?")
    return Written(replace(one.row, reason=reason), {})
