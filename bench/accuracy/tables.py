"""Runs as tables: a line per trainer and number of rows, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from console.table import table

HEADER = ["data", "bundle", "trainer", "rows", "accuracy", "least", "most", "parameters", "forward", "backward", "s"]


def lines(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for runs that differ by their seed only: accuracy in %, rows that went through the graphs, seconds.

    >>> run = {"data": "d", "bundle": "b", "name": "n", "rows": 4, "parameters": 2, "forward": 6, "backward": 0}
    >>> lines([{**run, "accuracy": a, "seconds": 1.0} for a in (0.5, 0.75)])
    [['d', 'b', 'n', '4', '62.5', '50.0', '75.0', '2', '6', '0', '1']]
    """
    out = []
    for key, same in groupby(runs, lambda run: (run["data"], run["bundle"], run["name"], run["rows"])):
        own = list(same)
        right = 100 * np.array([run["accuracy"] for run in own])
        means = [np.mean([run[name] for run in own]) for name in ("parameters", "forward", "backward", "seconds")]
        spread = [f"{number:.1f}" for number in (right.mean(), right.min(), right.max())]
        out.append([*map(str, key), *spread, *(f"{mean:,.0f}" for mean in means)])
    return out


def printed(runs: Sequence[dict[str, Any]]) -> str:
    """One table of all runs."""
    return str(table(HEADER, lines(runs)))
