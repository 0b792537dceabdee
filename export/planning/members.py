"""Who a fleet is planned for: boards of a fleet file and of the command line, and the one that has the tail."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace

from console.errors import UsageError, join
from devices.fleet import Settings, station
from devices.fleet_file import read_stations
from devices.profile import names as profile_names
from devices.split.fleet_plan import Trainer
from devices.split.work import Member
from devices.stages import Station
from export.formats.registry import QUANTS
from export.given import given_by

SERVER = "server"  # the profile of an agent that has the tail where nobody names one
TRAINERS: tuple[Trainer, ...] = ("backprop", "split", "local", "forward", "spry")


@dataclass(frozen=True)
class Crew:
    """The boards, and who has what they leave over; None where nobody does."""

    boards: tuple[Member, ...]
    tail: Member | None


def crew_of(options: argparse.Namespace) -> Crew:
    """The boards of a command line of `edgequilt plan`.

    Raises:
        UsageError: no board, one that does not learn, a tail that is not there, chains.
        NoAgent: a board that cannot run an agent.
    """
    settings = Settings(options.mode or "train", options.quant, QUANTS, options.profiles)
    stations = {} if options.fleet is None else dict(read_stations(options.fleet, settings))
    names = [name for name in dict.fromkeys(options.device) if name not in stations]
    asked = options.tail if options.tail not in (*stations, *names) else None
    every = [*stations, *names, *([asked] if asked else [])]
    given = given_by(options, every)
    known = profile_names(settings.profiles)
    for name in every[len(stations) :]:
        profile = "" if name not in known and name in given.own else name
        stations[name] = station(name, settings, profile=profile, budget_bytes=given.budgets.get(name))
    for name, one in stations.items():
        budget = given.budgets.get(name, one.board.budget_bytes)
        rank = given.ranks.get(name, one.board.rank)
        stations[name] = replace(one, board=replace(one.board, budget_bytes=budget, rank=rank))
    tail = options.tail or _server(stations)
    _refuse(stations, tail)
    trainers = tuple(t for t in TRAINERS if not options.trainer or t in options.trainer)
    formats = tuple(options.formats or ())
    boards = (_member(one, formats, trainers) for name, one in stations.items() if name != tail)
    return Crew(tuple(boards), _member(stations[tail], (), trainers) if tail else None)


def _member(one: Station, formats: tuple[str, ...], trainers: tuple[Trainer, ...]) -> Member:
    return Member(one.board, one.speed, formats or (one.board.quant,), trainers)


def _server(stations: Mapping[str, Station]) -> str:
    """The device that has the profile `server`; empty if none has, or it is alone."""
    found = [name for name, one in stations.items() if one.board.profile == SERVER]
    return found[0] if len(found) == 1 and len(stations) > 1 else ""


def _refuse(stations: Mapping[str, Station], tail: str) -> None:
    problems = []
    if not [name for name in stations if name != tail]:
        problems.append("expected boards as --fleet FILE.toml or --device NAME, found none")
    problems += [
        f"{name}: expected mode train or train-forward, found serve; it learns nothing"
        for name, one in stations.items()
        if one.board.mode == "serve"
    ]
    if tail and tail in stations and stations[tail].board.mode == "train-forward":
        problems.append(f"{tail}: expected mode train for the tail, found train-forward")
    if problems:
        raise UsageError(f"the fleet cannot be planned for: {join(problems)}")
