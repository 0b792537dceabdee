"""What is compared: on which bundle, with which trainer, over how many rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ROWS = (250, 1000, 4000)
LAST = r"layer\.5\.attention\.self\.(query|value)$"  # of all-MiniLM-L6-v2: its last block
FORWARD_ROWS = 1000
FORWARD = {"steps": 60, "batch": 16, "directions": 32, "rate": 3e-3, "patience": 0}  # 61,440 rows forward
QZO = {"trainer": "qzo", "layers": ("*layer.5.*",), "steps": 60, "batch": 16, "directions": 16, "patience": 0}


@dataclass(frozen=True)
class Case:
    """A line of a table.

    Attributes:
        name: of the line.
        rows: that are drawn, a tenth of them to judge by; each number is a run.
        asked: of the run, see `edge.training.wish.Wish`.
        seeds: at most so many of those that are asked for.
    """

    name: str
    rows: tuple[int, ...]
    asked: dict[str, Any]
    seeds: int = 99


@dataclass(frozen=True)
class Group:
    """Cases of one data set on one bundle.

    Attributes:
        data: "sst2", "clinc150" or "mnist".
        bundle: a name for it.
        quant: format of its weights.
        cases: in order.
        targets: which layers get adapters.
    """

    data: str
    bundle: str
    quant: str
    cases: tuple[Case, ...] = field(default=())
    targets: str = "auto"


RIDGE: dict[str, Any] = {"trainer": "ridge"}
BACKPROP: dict[str, Any] = {"trainer": "backprop"}
SPRY: dict[str, Any] = {"trainer": "spry", **FORWARD}


def groups(rows: Sequence[int] = ROWS) -> list[Group]:
    """All of them, those that take longest first."""
    every, middle = tuple(rows), (FORWARD_ROWS,)
    few = tuple(n for n in every if n <= FORWARD_ROWS)
    halves = Group(
        "sst2",
        "half",
        "int8",
        (
            Case("ridge (head alone)", every, RIDGE),
            Case("backprop", every, BACKPROP),
            Case("backprop, adam8", middle, {**BACKPROP, "optimizer": "adam8"}, 1),
            Case("backprop, sgd", middle, {**BACKPROP, "optimizer": "sgd"}, 1),
            Case("backprop, constant rate", middle, {**BACKPROP, "schedule": "constant", "warmup": 0.0}, 1),
            Case("auto", middle, {"trainer": "auto", "force": False}, 1),
        ),
    )
    last = Group(
        "sst2",
        "last",
        "int8",
        (
            Case("ridge (head alone)", middle, RIDGE),
            Case("backprop", middle, BACKPROP),
            Case("spry, biases", middle, {**SPRY, "kinds": ("bias",)}),
            Case("spry, rank 1", middle, {**SPRY, "kinds": ("lora",), "rank": 1}, 1),
        ),
        LAST,
    )
    scales = [
        Group("sst2", "last", quant, (Case("ridge (head alone)", middle, RIDGE), Case("qzo", middle, QZO)), LAST)
        for quant in ("int4", "nf4")
    ]
    intents = Group(
        "clinc150", "half", "int8", (Case("ridge (head alone)", few, RIDGE), Case("backprop", few, BACKPROP))
    )
    digits = Group(
        "mnist",
        "whole",
        "int8",
        (
            Case("ridge (head alone)", few, RIDGE),
            Case("backprop", few, BACKPROP),
            Case("backprop, 20 passes", few, {**BACKPROP, "epochs": 20.0}),
            Case("spry, biases", middle, {**SPRY, "kinds": ("bias",)}),
        ),
    )
    return [halves, last, *scales, intents, digits]


def quick() -> list[Group]:
    """One short run of every trainer: whether it works, not how well."""
    small: dict[str, Any] = {"steps": 2, "batch": 4, "directions": 2, "patience": 0}
    own = (
        Case("ridge (head alone)", (40,), RIDGE),
        Case("backprop", (40,), {**BACKPROP, **small}),
        Case("spry, biases", (40,), {**SPRY, **small, "kinds": ("bias",)}),
        Case("qzo", (40,), {"trainer": "qzo", **small}),
    )
    texts = Group("sst2", "half", "int8", own)
    return [texts, Group("clinc150", "half", "int8", own[:2]), Group("mnist", "whole", "int8", own[:2])]
