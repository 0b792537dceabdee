"""PLAN.json: who holds which part of a model, of which ranks, and what it takes (docs/plan.md, "The plan of a fleet").

A board holds the units before its *border*: the whole model where the border is their number. What lies behind is the
tail's, which one agent of profile `server` holds for all fronts. Reading is strict: every problem is named at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from console.errors import BadData, join
from console.table import shown
from devices.split.fleet_plan_checks import contradictions
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.record import NAME, SENTENCE, TOLD, at_least, matching, plain, read_record

VERSION = 1
MOST_BYTES = 64 << 20
Trainer = Literal["backprop", "split", "local", "forward", "spry"]
FRONT: tuple[Trainer, ...] = ("split", "local", "forward")  # those whose rest a tail holds
Coding = Literal["float32", "float16", "int8", ""]
Labels = Literal["along", "stay", ""]
Objective = Literal["importance", "time"]


@dataclass(frozen=True)
class Reason:
    """A choice, and why: a row of the table that explains a plan."""

    choice: str
    found: str
    why: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Captured:
    """With which options the model was looked at; an export of this plan has to have the same.

    Attributes:
        source: as it was given.
        task: as optimum names tasks; empty where it was not given.
        sequence: tokens of a text; None for other models.
        classes: of the head that is put on; 0 for none.
        targets: which layers get a slot.
        kinds: which kinds of slots they get.
        tables: whether large tables stay in the graph.
    """

    source: str
    task: str = ""
    sequence: int | None = field(default=None, metadata=at_least(1))
    classes: int = field(default=0, metadata=at_least(0))
    targets: str = "auto"
    kinds: tuple[str, ...] = ("lora",)
    tables: Literal["in", "out"] = "in"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BoardPlan:
    """What one board does in a round.

    Attributes:
        device: its name in the fleet.
        profile: its kind of board; empty where nobody said.
        budget_bytes: of its worker.
        mode: of its bundle: "train", or "train-forward" for a trainer that needs no backward graph.
        trainer: "backprop" or "spry" over the whole model; "split" with the tail at every step; "local" against an
            auxiliary head, with the tail once a round; "forward" as "split", by differences in place of gradients.
        border: it holds the units before this one.
        before: the name of the unit at the border; empty where it holds all of them.
        cuts: unit numbers within what it holds, where that runs as several segments.
        quant: format of its weights.
        ranks: of the adapter of each slot that it trains; a slot of what it holds that is not named has none.
        batch: items of a step, a multiple of the plan's micro-batch.
        coding: of boundary tensors on their way up and down; empty where nothing crosses.
        labels: whether they go along with the boundary tensors, or stay; empty where nothing crosses.
        memory_bytes: predicted peak of its worker.
        step_ns, round_ns: predicted time of a step, its waiting included, and of a round.
        link_ns: of a step, what crosses; 0 where nothing does in a step, or nobody said.
        up_bytes, down_bytes: of a round, adapters included.
        covered: share of the importance that its adapters cover, 0 to 1.
        reasons: the choices, and why.
    """

    device: str = field(metadata=matching(NAME))
    budget_bytes: int = field(metadata=at_least(1))
    trainer: Trainer
    border: int = field(metadata=at_least(1))
    quant: str
    ranks: dict[str, int]
    batch: int = field(metadata=at_least(1))
    memory_bytes: int = field(metadata=at_least(0))
    step_ns: int = field(metadata=at_least(0))
    round_ns: int = field(metadata=at_least(0))
    up_bytes: int = field(metadata=at_least(0))
    down_bytes: int = field(metadata=at_least(0))
    covered: float = field(metadata=at_least(0, 1))
    profile: str = ""
    mode: Literal["train", "train-forward"] = "train"
    before: str = ""
    cuts: tuple[int, ...] = field(default=(), metadata=at_least(1))
    coding: Coding = ""
    labels: Labels = ""
    reasons: tuple[Reason, ...] = ()
    link_ns: int = field(default=0, metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def in_front(self) -> bool:
        """Whether a tail holds the rest."""
        return self.trainer in FRONT


@dataclass(frozen=True)
class TailPlan:
    """The agent that holds what lies behind the fronts: the whole model, cut at every border.

    Attributes:
        device: its name in the fleet.
        profile: its kind of machine; empty where nobody said.
        budget_bytes: of its worker.
        quant: format of its weights.
        borders: of the fronts, in ascending order; its segments are cut there.
        ranks: of the adapter of each slot behind the earliest border.
        memory_bytes: predicted peak of its worker, with a copy of its adapters for every board.
        busy_ns: what all boards together keep it busy for in a round.
        agents: how many of it a round asks for, so that none is busy longer than the round takes.
        cuts: where its segments end, the borders among them.
    """

    device: str = field(metadata=matching(NAME))
    budget_bytes: int = field(metadata=at_least(1))
    quant: str
    borders: tuple[int, ...] = field(metadata=at_least(1))
    ranks: dict[str, int]
    memory_bytes: int = field(metadata=at_least(0))
    busy_ns: int = field(metadata=at_least(0))
    agents: int = field(default=1, metadata=at_least(1))
    profile: str = ""
    cuts: tuple[int, ...] = field(default=(), metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetPlan:
    """The whole file.

    Attributes:
        version: of the file's form.
        model: what was looked at, and how.
        units: where each unit begins, by name; borders and cuts are numbers of units.
        micro_batch: items of a run, the same for all.
        steps: of a round.
        boards: what each does.
        tail: who holds the rest; None where every board holds the whole model.
        importance: of each slot, as shares that sum to 1.
        importance_from: how it was found: "uniform" per value, or where it was measured.
        objective: "importance", most of it covered; "time", equal round times.
        deadline_ns: that the boards keep, where they were planned for one.
    """

    version: int = field(metadata=at_least(1))
    model: Captured
    units: tuple[str, ...]
    micro_batch: int = field(metadata=at_least(1))
    steps: int = field(metadata=at_least(1))
    boards: tuple[BoardPlan, ...]
    importance: dict[str, float]
    tail: TailPlan | None = None
    importance_from: str = "uniform"
    objective: Objective = "importance"
    deadline_ns: int | None = field(default=None, metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)

    def board(self, device: str) -> BoardPlan | None:
        """What a device does; None of one that is not in the plan."""
        return next((board for board in self.boards if board.device == device), None)


def read_fleet_plan(path: Path) -> FleetPlan:
    """Read a plan.

    Raises:
        StorageError: it cannot be read.
        BadData: it is not JSON, of a newer version, or names everything in it that is absent, wrong or contradicts.
    """
    return parse_fleet_plan(read_bytes(path, "a plan", MOST_BYTES), path.name)


def parse_fleet_plan(data: bytes, where: str) -> FleetPlan:
    """The same of its bytes.

    Args:
        data: JSON.
        where: what the bytes were, for the message.

    Raises:
        BadData: as `read_fleet_plan`.
    """
    try:
        found = parse_json(data)
    except ValueError as error:
        raise BadData(f"expected a plan in JSON in {shown(where)}, but {error}; use edgequilt plan") from error
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise BadData(
            f"expected a plan of version {VERSION} in {shown(where)}, found {version}; it is of a newer edgequilt: "
            "update this one, or plan again"
        )
    made = read_record(FleetPlan, found, where)
    problems = contradictions(made)
    if problems:
        told = join([shown(problem[:SENTENCE]) for problem in problems], TOLD)
        raise BadData(f"{shown(where)} contradicts itself: {told}; plan again with edgequilt plan")
    return made


def plan_bytes(made: FleetPlan) -> bytes:
    """The file: JSON, readable, the same bytes for the same plan."""
    return (json.dumps(plain(made), indent=1, ensure_ascii=False) + "\n").encode()


def write_fleet_plan(path: Path, made: FleetPlan) -> None:
    """Write a plan, whole or not at all.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_atomic(path, plan_bytes(made))
