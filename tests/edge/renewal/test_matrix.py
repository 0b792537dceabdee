"""Whatever strikes at whatever part of a bundle's way: the new one is in use, or exactly the old one is."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.edge.renewal.board import Board, Made, make
from tests.edge.slots.strike import KINDS, Fault

SIDES = ("enter", "leave")
WAY = ("follow", "manifest", "fetch", "submit", "prove", "switch", "begin", "own", "answer", "keep", "collect")
ENDS = {"back": "sick", "give up": "wrong"}  # parts of the way back, and the bundle that leads there
FETCHING = ("manifest", "fetch")
WORKER = ("prove", "own")  # what a process of its own does: its end is an answer
ALWAYS = 99
STAYS = [*product([*FETCHING, "submit", "prove", "own", "answer"], SIDES)]
STAYS += [("switch", "enter"), ("begin", "leave"), ("keep", "enter")]
COMES = ("fetch", "leave")  # each start brings a file, as long as there are starts
LASTS = ("answer", "leave")  # by then it has lasted long enough to be kept
ALL = "EDGEQUILT_WHOLE_MATRIX" in os.environ  # ten minutes of a quiet machine; else what is chosen, a minute and a half
AT_ONCE = {("killed", "fetch", "leave"), ("killed", "switch", "enter")}
CHOSEN = {
    *(("killed", state, SIDES[at % 2]) for at, state in enumerate((*WAY, *ENDS))),
    *(("error", "submit", "enter"), ("error", "prove", "leave"), ("later", "follow", "enter")),
    *(("later", "switch", "leave"), ("hung", "fetch", "leave"), ("hung", "give up", "leave")),
}
CHOSEN_STAYS = {("killed", "submit", "leave"), ("killed", "own", "enter")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What every board begins with."""
    return make(tmp_path_factory.mktemp("made"))


def cases() -> list[Any]:
    """Each case starts an agent several times, so most of them wait for the long run."""
    found = [case for case in product(KINDS, (*WAY, *ENDS), SIDES) if ALL or case in CHOSEN | AT_ONCE]
    return [pytest.param(*case, marks=() if case in AT_ONCE else pytest.mark.heavy) for case in found]


def lasting() -> list[Any]:
    """Faults that come again and again."""
    found = [(kind, *at) for kind, at in product(("killed", "hung"), STAYS)]
    return [case for case in found if ALL or case in CHOSEN_STAYS]


def test_nothing_strikes(made: Made, tmp_path: Path) -> None:
    """Without a fault the new bundle is in use after two starts, and the old one is kept."""
    board = Board(made, tmp_path)
    assert board.live() == 2
    installed(board)


@pytest.mark.heavy
@pytest.mark.parametrize("manner", ENDS.values())
def test_a_bundle_that_does_not_answer(manner: str, made: Made, tmp_path: Path) -> None:
    """Damaged in use, or wrong from the beginning: all is as before, and the hub knows why."""
    board = Board(made, tmp_path, manner)
    before = board.tree()
    board.live()
    as_before(board, before)


@pytest.mark.parametrize(("kind", "state", "side"), cases())
def test_a_fault(kind: str, state: str, side: str, made: Made, tmp_path: Path) -> None:
    """Once: what another try mends is mended; what it would not mend, and a worker's end, lead back."""
    board = Board(made, tmp_path, ENDS.get(state, "good"))
    before = board.tree()
    board.strike(Fault(kind, state, side))
    board.live()
    assert board.struck == 1, "the fault has not struck"
    if state in ENDS or state in WORKER or (kind == "error" and state in (*FETCHING, "submit")):
        as_before(board, before)
    else:
        installed(board)


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "state", "side"), lasting())
def test_a_fault_that_stays(kind: str, state: str, side: str, made: Made, tmp_path: Path) -> None:
    """However often it is begun again: it is given up, all is as before, and the board serves; or nothing was lost."""
    board = Board(made, tmp_path)
    before = board.tree()
    board.strike(Fault(kind, state, side, ALWAYS))
    board.live()
    if (state, side) == LASTS or ((state, side) == COMES and board.kept.current == board.new):
        installed(board)
    else:
        as_before(board, before)


def installed(board: Board) -> None:
    """The new bundle is in use and whole, the old one is beside it, nothing else is; the hub heard of no failure."""
    kept = board.kept
    assert (kept.current, kept.former) == (board.new, board.old)
    assert (kept.starts, kept.failed_sequence, kept.fetches, kept.proofs) == (-1, -1, 0, 0)
    assert board.bundles() == {board.old, board.new}
    assert board.whole(board.new)
    assert board.whole(board.old)
    assert [line for line in board.told() if "not yet" not in line] == []


def as_before(board: Board, before: dict[str, str]) -> None:
    """The old bundle is in use, every file as it was, nothing else is there; the hub knows why."""
    kept = board.kept
    assert board.tree() == before
    assert (kept.current, kept.former) == (board.old, "")
    assert (kept.starts, kept.failed_sequence, kept.untold) == (-1, 1, False)
    assert board.told()[-1].startswith("bundle-1: ")
    assert kept.failed
