"""Which boards to plan for: alone, and in chains that run one model together (docs/fleet.md)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from console.errors import EdgequiltError, UsageError
from devices.enough import KnownBoard
from devices.fronts import BoardSplit
from devices.plan import Board
from devices.profile import load, names, require_agent
from devices.runtimes import opset_for
from devices.speed import cpu_of
from devices.stages import Objective, Station
from devices.times import UNKNOWN, speed_of

RATES = ("flops_per_s", "bytes_per_s", "link_bytes_per_s")
TIMED: tuple[Objective, ...] = ("throughput", "latency")  # objectives that compare times


@dataclass(frozen=True)
class Settings:
    """What a device has that says nothing else, and the formats that there are."""

    mode: str
    quant: str
    formats: tuple[str, ...]
    profiles: Path | None = None
    trunk: str = "within"


@dataclass(frozen=True)
class BoardChain:
    """Boards that run one model together, in this order; `name` is empty for a chain of the command line."""

    name: str
    stations: tuple[Station, ...]
    objective: Objective = "fewest"

    @property
    def mode(self) -> str:
        """Of all its boards."""
        return self.stations[0].board.mode


@dataclass(frozen=True)
class Fleet:
    """What to plan for: a bundle per board, one per stage of every chain, one per front and tail of every split."""

    boards: tuple[Board, ...] = ()
    chains: tuple[BoardChain, ...] = ()
    splits: tuple[BoardSplit, ...] = ()

    @property
    def everyone(self) -> tuple[Board, ...]:
        """All boards, those of chains and of splits too."""
        chained = (station.board for chain in self.chains for station in chain.stations)
        return (*self.boards, *chained, *(board for split in self.splits for board in split.boards))


def station(
    name: str,
    settings: Settings,
    *,
    profile: str = "",
    budget_bytes: int | None = None,
    rank: int | None = None,
    onnxruntime_max: str | None = None,
) -> Station:
    """A board and its speed, from a profile, a budget, or both; the budget given wins.

    Raises:
        UsageError: no such profile, or neither profile nor budget.
        NoAgent: a board that cannot run an agent.
    """
    if not profile:
        if budget_bytes is None:
            raise UsageError("expected a profile or a budget, found neither; give one of them")
        board = Board(name, budget_bytes, settings.mode, settings.quant, rank, "", onnxruntime_max)
        return Station(replace(board, trunk=settings.trunk), UNKNOWN)
    known = load(profile, settings.profiles)
    require_agent(known)
    budget = known.budget_bytes if budget_bytes is None else budget_bytes
    runtime = onnxruntime_max or known.onnxruntime_max
    board = Board(name, budget, settings.mode, settings.quant, rank, profile, runtime, cpu_of(known))
    return Station(replace(board, trunk=settings.trunk), speed_of(known))


def known_boards(profiles: Path | None = None) -> tuple[KnownBoard, ...]:
    """Every kind of board that could take what is exported, to name those that would do where another does not.

    Boards that run no agent, or no runtime that is new enough, are left out, and so is a profile that cannot be read:
    it is refused where somebody asks for it.

    Args:
        profiles: a folder of the user's own, beside ours.

    Raises:
        UsageError: the folder is not there.
    """
    found = []
    for name in names(profiles):
        with suppress(EdgequiltError):
            profile = load(name, profiles)
            require_agent(profile)
            opset_for([profile.onnxruntime_max] if profile.onnxruntime_max else [])
            found.append(KnownBoard(name, profile.budget_bytes))
    return tuple(found)


def require_speeds(chain: BoardChain) -> None:
    """Refuse to compare times of boards whose speed nobody knows.

    Raises:
        UsageError: the objective compares times, and a board has no rates.
    """
    problem = without_speeds(chain.objective, chain.stations)
    if problem:
        raise UsageError(problem)


def without_speeds(objective: Objective, stations: Sequence[Station]) -> str:
    """Why the times of some boards cannot be compared; empty if they can, or need not be."""
    slow = [s.board.name for s in stations if s.speed == UNKNOWN]
    if objective not in TIMED or not slow:
        return ""
    return (
        f"expected rates of {', '.join(slow)} for objective {objective}, which compares times, found none; take boards "
        f"that have a profile, give {', '.join(RATES)} in a fleet file, or choose fewest or traffic"
    )
