"""A result as a run would leave it, for tests of what is made of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sim.result import BoardResult, Check, Result

MIB = 1 << 20
BOARDS = (
    BoardResult("zero", 2, 300, 3, 1, 120 * MIB, 100 * MIB, 90 * MIB, 0.5, 1 * MIB, 2 * MIB, 0.20),
    BoardResult("four", 8, 450, 3, 1, 900 * MIB, 100 * MIB, 95 * MIB, 0.4, 2 * MIB, 3 * MIB, 0.30),
    BoardResult("orin", 16, 600, 3, 1, 4000 * MIB, 100 * MIB, 96 * MIB, 0.3, 4 * MIB, 6 * MIB, 0.25),
)
GOOD = Result(
    scenario="text",
    model="tiny",
    boards=BOARDS,
    joint={2: 0.70, 8: 0.74, 16: 0.75},
    candidate={2: 0.70, 8: 0.74, 16: 0.75},
    head_only=0.74,
    centralised=0.80,
    unadapted=None,
    test_rows=720,
    by_round=(("head", 0.74), ("train 1", 0.73), ("head again", 0.75)),
    gate="0.741 on the hold-outs, 0.739 before: released",
    released=5,
    invariants=(Check("nothing is lost", True, "12 receipts"), Check("all signatures checked", True)),
    learning=(),
    seconds={"export": 20.0, "rounds": 60.5},
    seed=7,
)


def result(**changes: Any) -> Result:
    """A good result, but for some fields."""
    return replace(GOOD, **changes)
