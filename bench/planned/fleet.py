"""A small fleet on this machine: what it is by a probe, what is planned for it, and the bundles of that plan.

All boards are this machine with less memory, so that its latency table is theirs. Everything is made by the commands
that a user has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from console.toml import read_toml
from devices.profile import Figure, parse
from devices.profile_text import profile_text
from devices.split.fleet_plan import FleetPlan, read_fleet_plan
from devices.times import Speed, speed_of
from edge.probe.cli import probe
from export.cli import export
from export.cli_plan import plan
from wire.files import write_atomic

PROFILE, TAIL = "here", "hall"
CLASSES = ("a", "b", "c", "d")
TASK = "feature-extraction"
Budgets = Mapping[str, str]  # of a worker, by board, as in "110MiB"


@dataclass(frozen=True)
class Asked:
    """What is planned for.

    Attributes:
        model: a folder.
        budgets: of every board.
        sequence: tokens of a row.
        batch: rows of a step.
        micro_batch: rows of a run.
        link_bytes_per_s: of every board and of the tail.
        trainers: that boards may use; empty: all.
    """

    model: Path
    budgets: Budgets
    sequence: int = 32
    batch: int = 16
    micro_batch: int = 4
    link_bytes_per_s: int = 12_500_000
    trainers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A plan, the speed of this machine by which it was made, and a bundle for every device."""

    plan: FleetPlan
    speed: Speed
    bundles: Mapping[str, Path]


def probed(folder: Path, link_bytes_per_s: int, quick: bool = False) -> Path:
    """The profile of this machine, in a folder; one that is there stays, but for its link."""
    path = folder / f"{PROFILE}.toml"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        probe(["--save", str(path), *(["--quick"] if quick else [])])
    found = parse(read_toml(path), PROFILE, path.name)
    link = Figure(link_bytes_per_s, "unverified: as the bench was told")
    write_atomic(path, profile_text(replace(found, link_bytes_per_s=link)).encode())
    return path


def planned(asked: Asked, folder: Path, profile: Path, *, fresh: bool = True) -> Planned:
    """Plan, export; `fresh` false takes the bundles that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, fleet, file, out = (folder / n for n in ("classes.txt", "fleet.toml", "plan.json", "bundles"))
    labels.write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    fleet.write_text(fleet_file(asked.budgets), encoding="utf-8")
    profiles = ["--profiles", str(profile.parent)]
    common = [str(asked.model), "--task", TASK, "--labels", str(labels), "--sequence", str(asked.sequence), *profiles]
    if fresh or not file.exists():
        plan([*common, *terms(asked), "--fleet", str(fleet), "--tail", TAIL, "--out", str(file)])
        export([*common, "--plan", str(file), "--out", str(out)])
    made = read_fleet_plan(file)
    devices = [*asked.budgets, *([TAIL] if made.tail else [])]
    speed = speed_of(parse(read_toml(profile), PROFILE, profile.name))
    return Planned(made, speed, {name: out / name for name in devices})


def fleet_file(budgets: Budgets) -> str:
    """As `edgequilt plan --fleet` reads it.

    >>> fleet_file({"gate": "90MiB"}).splitlines()[:4]
    ['[[device]]', 'name = "gate"', 'profile = "here"', 'budget = "90MiB"']
    """
    boards = [f'[[device]]\nname = "{n}"\nprofile = "{PROFILE}"\nbudget = "{b}"\n' for n, b in budgets.items()]
    return "\n".join([*boards, f'[[device]]\nname = "{TAIL}"\nprofile = "{PROFILE}"\nbudget = "2GiB"\n'])


def terms(asked: Asked) -> Sequence[str]:
    """Options of a plan."""
    chosen = [word for name in asked.trainers for word in ("--trainer", name)]
    sizes = ["--batch", str(asked.batch), "--micro-batches", str(asked.micro_batch)]
    return [*sizes, *chosen, "--quant", "int8"]
