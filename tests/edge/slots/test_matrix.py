"""Whatever strikes at whatever state of an update: the new release is installed, or all is exactly as before."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from edge.slots.record import BACK, CHILD, COMMIT, FETCH, PROVE, STATES, TRIAL
from tests.edge.slots.board import NEW, OLD, Board
from tests.edge.slots.strike import KINDS, Fault

SIDES = ("enter", "leave")
ALWAYS = 99
AT_ONCE = {("error", PROVE, "leave"), ("later", FETCH, "leave"), ("hung", TRIAL, "enter")}  # beside kills at the entry


def cases() -> list[Any]:
    """The whole matrix; each case takes a second or two, so most of them wait for the long run."""
    found = list[Any]()
    for kind, state, side in product(KINDS, STATES, SIDES):
        quick = (kind, side) == ("killed", "enter") or (kind, state, side) in AT_ONCE
        found.append(pytest.param(kind, state, side, marks=() if quick else pytest.mark.heavy))
    return found


def test_nothing_strikes(tmp_path: Path) -> None:
    """Without a fault the release is installed: it runs, the one before is kept, nothing else is left."""
    board = Board(tmp_path)
    packed = board.offer()
    assert board.live() == 2
    installed(board, packed.files[-1].sha256)


@pytest.mark.parametrize(("kind", "state", "side"), cases())
def test_a_fault(kind: str, state: str, side: str, tmp_path: Path) -> None:
    """Once: what another try mends is mended, what it would not mend leads back; a way back is gone to its end."""
    board = Board(tmp_path)
    before = board.tree()
    packed = board.offer(manner="broken" if state == BACK else "good")
    board.strike(Fault(kind, state, side))
    board.live()
    assert '"times": 0' in (tmp_path / "fault.json").read_text(), "the fault has not struck"
    if state == BACK or (kind == "error" and state in CHILD):
        as_before(board, before)
    else:
        installed(board, packed.files[-1].sha256)


@pytest.mark.heavy
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("state", [*CHILD, TRIAL])
@pytest.mark.parametrize("kind", ["killed", "hung"])
def test_a_fault_that_stays(kind: str, state: str, side: str, tmp_path: Path) -> None:
    """However often it is begun again: it is given up, and all is as before."""
    board = Board(tmp_path)
    before = board.tree()
    board.offer()
    board.strike(Fault(kind, state, side, ALWAYS))
    board.live()
    as_before(board, before)


def installed(board: Board, last: str) -> None:
    """The new release starts, and nothing of the update is left."""
    found, kept = board.tree(), board.record.kept
    assert found["current"] == f"-> releases/{NEW}"
    assert found[f"releases/{NEW}/release.json"] == last
    assert {name.split("/")[1] for name in found if name.startswith("releases/")} == {OLD, NEW}
    assert not [name for name in found if name.startswith(("trial", "gave-up", "state/program"))]
    assert (kept.done, kept.failed_sequence, kept.state) == (1, -1, "")
    assert board.told() == ""


def as_before(board: Board, before: dict[str, str]) -> None:
    """Every file of the board, and the hub knows why."""
    kept = board.record.kept
    assert board.tree() == before
    assert (kept.done, kept.failed_sequence, kept.state) == (-1, 1, "")
    assert board.told().startswith("release-1: ")
    assert COMMIT not in kept.failed
