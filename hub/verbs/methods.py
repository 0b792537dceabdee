"""`edgequilt hub methods`: how many adapters can become one, and what each way loses."""

from __future__ import annotations

import argparse
from textwrap import fill
from typing import Any

from console.table import table
from hub.aggregation.method import Method
from hub.aggregation.methods import METHODS
from hub.verbs.common import Row, add_verb, say

WIDTH = 100  # of sentences


def parse(verbs: Any) -> None:
    """Its options."""
    add_verb(verbs, "methods", _methods, "how adapters can become one (`round open --aggregate`), and what each loses")


def _methods(options: argparse.Namespace) -> int:
    found = [row_of(method) for method in METHODS.values()]
    rows = [
        [r["method"], "equal" if r["equal_ranks"] else "any", r["trains"], "yes" if r["buffered"] else "no"]
        for r in found
    ]
    lost = [f"{r['method']} loses {r['inexact'] or 'nothing but what the rank of the hub cuts off'}" for r in found]
    folded = [fill(f"{sentence}.", WIDTH, subsequent_indent="    ") for sentence in lost]
    text = "\n".join([table(["method", "ranks of boards", "learns", "buffered rounds"], rows), "", *folded])
    return say(options, {"methods": found}, text)


def row_of(method: Method) -> Row:
    """A method, as people are told of it."""
    learns = {"both": "A and B", "a": "A", "b": "B"}
    first = dict.fromkeys(learns[method.trains(nth)] for nth in range(2))
    return {
        "method": method.name,
        "inexact": method.inexact,
        "equal_ranks": method.equal_ranks,
        "trains": ", then ".join(first),
        "buffered": method.apply_stale is not None,
    }
