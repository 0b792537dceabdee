"""`--split BOARD[=UNIT]` and `--tail NAME` of `edgequilt export`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass

from console.errors import UsageError
from devices.fleet import Fleet
from devices.fronts import FORWARD, BoardSplit, Front, as_tail
from devices.stages import Station

AUTO, SERVER = "auto", "server"


@dataclass(frozen=True)
class Asked:
    """Boards with fronts, by name with the unit of their border (None: the deepest), and the name of the tail."""

    fronts: Mapping[str, int | None]
    tail: str

    @property
    def names(self) -> tuple[str, ...]:
        """All boards, the tail last."""
        return (*self.fronts, self.tail) if self.fronts else ()

    def splits(self, stations: Mapping[str, Station]) -> tuple[BoardSplit, ...]:
        """The split of these boards; none where there are no fronts."""
        fronts = tuple(Front(stations[name].board, border) for name, border in self.fronts.items())
        return (BoardSplit(fronts, as_tail(stations[self.tail].board)),) if fronts else ()


def split_options(p: argparse.ArgumentParser) -> None:
    """Add what says who holds fronts."""
    p.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="BOARD[=UNIT]",
        help="a board that holds the front of the model only, up to a unit (default: as much as it can train)",
    )
    p.add_argument("--tail", metavar="NAME", help=f"the board that holds the rest of every front (default: {SERVER})")


def asked_split(options: argparse.Namespace) -> Asked:
    """What the command line says of fronts and their tail.

    Raises:
        UsageError: a tail without fronts, a board twice, or a unit that is none.
    """
    fronts: dict[str, int | None] = {}
    for text in options.split:
        name, _, unit = (part.strip() for part in text.partition("="))
        if not name or not (unit in {"", AUTO} or re.fullmatch("[1-9][0-9]{0,5}", unit)):
            raise UsageError(f"expected --split BOARD, BOARD={AUTO} or BOARD=UNIT with a number, found {text!r}")
        if name in fronts:
            raise UsageError(f"expected each board once in --split, found {name} twice")
        fronts[name] = None if unit in {"", AUTO} else int(unit)
    if options.tail is not None and not fronts:
        raise UsageError("expected --split BOARD beside --tail, found none; a tail goes on behind a board's front")
    tail = options.tail or SERVER
    if tail in fronts:
        raise UsageError(f"expected another board as --tail than those with fronts, found {tail}")
    return Asked(fronts, tail)


def check_split(options: argparse.Namespace, chosen: Fleet) -> None:
    """What a split cannot have.

    Raises:
        UsageError: another mode than training, several lengths of texts, a trunk.
    """
    boards = [board for parted in chosen.splits for board in parted.boards]
    other = sorted({board.mode for board in boards} - {"train", FORWARD})
    if other:
        raise UsageError(
            f"expected a split to train, found mode {' and '.join(other)}; give --labels or --data for a head, or "
            f"--mode train or {FORWARD} for a decoder"
        )
    if boards and len(options.sequence) > 1:
        raise UsageError("expected one --sequence for a split, found several: its bundles have one bucket each")
    if boards and options.trunk == "apart":
        raise UsageError("expected no --trunk apart for a split, found it; where boards and tail meet is a cut already")
    names = [board.name for board in (*chosen.boards, *boards)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"expected each board in one place, found {', '.join(twice)} in several; fronts and tails get a folder "
            "each, like boards with the whole model"
        )
