"""Budgets and ranks of the command line: for all boards, or by name."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from console.errors import UsageError
from console.size import size_bytes
from devices.fleet import Fleet
from devices.fronts import BoardSplit
from devices.plan import Board


@dataclass(frozen=True)
class Given:
    """Budgets in bytes and ranks by the names of boards, and which boards have a budget of their own."""

    budgets: dict[str, int]
    ranks: dict[str, int]
    own: set[str]


def given_by(options: argparse.Namespace, names: list[str]) -> Given:
    """What the command line says of boards that are called so.

    Raises:
        UsageError: a name that is none of them, a size or a rank that is none.
    """
    budgets = _by_name(options.budget, names, "--budget")
    ranks = _by_name(options.rank, names, "--rank")
    return Given(
        {name: _budget(text) for name, text in budgets.items()},
        {name: _rank(text) for name, text in ranks.items()},
        {text.rpartition("=")[0] for text in options.budget},
    )


def overruled(file: Fleet, given: Given) -> Fleet:
    """A fleet file whose devices have the budgets and ranks of the command line where it has some."""

    def board(own: Board) -> Board:
        budget = given.budgets.get(own.name, own.budget_bytes)
        return replace(own, budget_bytes=budget, rank=given.ranks.get(own.name, own.rank))

    chains = (
        replace(chain, stations=tuple(replace(station, board=board(station.board)) for station in chain.stations))
        for chain in file.chains
    )
    splits = (
        BoardSplit(tuple(replace(front, board=board(front.board)) for front in split.fronts), board(split.tail))
        for split in file.splits
    )
    return Fleet(tuple(board(own) for own in file.boards), tuple(chains), tuple(splits))


def _by_name(given: list[str], names: list[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` for one board, `VALUE` for all that are not named."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if equals and name not in names:
            chosen = ", ".join(dict.fromkeys(names)) or "a board that --device, --across or --fleet names"
            raise UsageError(f"expected {option} NAME=VALUE for one of {chosen}, found {text!r}")
        found |= {name: value} if equals else {n: value for n in names if n not in found}
    return found


def _budget(text: str) -> int:
    try:
        found = size_bytes(text)
    except UsageError as error:
        raise UsageError(f"--budget: {error}") from error
    if found < 1:
        raise UsageError(f"expected a --budget of at least 1 byte, found {text!r}")
    return found


def _rank(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1024:
        raise UsageError(f"expected a --rank of 1 to 1024, found {text!r}")
    return int(text)
