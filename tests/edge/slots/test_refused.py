"""Releases that a board does not take: forged, old, for another system, too large; and one that is sick later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from console.errors import StorageError, TransportError
from edge import room
from edge.slots import launch
from edge.slots.slots import Slots
from edge.slots.steps import Job, advance
from edge.slots.system import own_system
from tests.edge.slots.board import NEW, OLD, Board
from tests.edge.slots.program import Shop
from tests.edge.slots.test_matrix import as_before
from wire.envelope import Trust, detached
from wire.keys import new_key, read_public_key
from wire.messages import Program

PYTHON, GLIBC, MACHINE = own_system()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with one release."""
    return Board(tmp_path)


def served(board: Board) -> Path:
    """Where the hub serves the release that it names."""
    seen = board.record.kept.seen
    assert seen is not None
    return board.root / "shop" / "programs" / seen.release


def test_a_forged_release_is_not_unpacked(board: Board) -> None:
    """Signed by somebody whom the board does not know: its stream is not even asked for."""
    before = board.tree()
    board.offer()
    body = (served(board) / "manifest.json").read_bytes()
    (served(board) / "manifest.sig").write_bytes(detached(new_key("publisher", "publisher"), body))
    for blob in (board.root / "shop" / "blobs").iterdir():
        blob.unlink()  # asking for it would be a failure of another kind, which is tried again
    board.live()
    as_before(board, before)
    assert "signed by a trusted publisher key" in board.record.kept.failed


def test_a_signature_of_another_role_is_none(board: Board) -> None:
    """The hub itself cannot make a release."""
    before = board.tree()
    board.offer()
    body = (served(board) / "manifest.json").read_bytes()
    (served(board) / "manifest.sig").write_bytes(detached(new_key("hub", "hub"), body))
    board.live()
    as_before(board, before)


@pytest.mark.parametrize(
    "other", [{"python": "3.9"}, {"architecture": "riscv64"}, {"glibc": "2.999"}], ids=["python", "machine", "glibc"]
)
def test_a_release_for_another_system_is_refused(other: dict[str, Any], board: Board) -> None:
    """Before its stream is fetched; the hub hears for which system it is and which one this is."""
    before = board.tree()
    board.offer(**other)
    board.live()
    as_before(board, before)
    assert f"expected a release for Python {PYTHON}, glibc {GLIBC}, {MACHINE}" in board.told()


def test_a_lower_sequence_is_never_followed(board: Board) -> None:
    """An order that was replayed, also after a start, and after the higher one failed."""
    board.offer(sequence=7, python="3.9")
    board.live()
    for sequence in (1, 6, 7):
        assert not board.record.follow(Program("barn-1", sequence, "0" * 64))
    assert board.record.wanted is None
    assert board.record.follow(Program("barn-1", 8, "0" * 64))


def test_a_release_that_the_disk_cannot_take_is_not_fetched(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice its size and what is to spare must be free; else its stream is not even asked for."""
    board.offer()
    for blob in (board.root / "shop" / "blobs").iterdir():
        blob.unlink()
    board.record.note(state="fetch")
    trust = Trust([read_public_key(board.home / "publisher.pub", "publisher")])
    job = Job(board.record, Slots(board.home), trust, Shop(board.root / "shop"), board.home / "agent.toml")
    with pytest.raises(TransportError, match="found none"):
        advance(job)
    monkeypatch.setattr(room, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageError, match="to spare.*free some space"):
        advance(job)


def test_room_is_twice_the_size_and_what_is_to_spare(tmp_path: Path) -> None:
    """At the limit, seen from both sides; what is here already needs none."""
    told = os.statvfs(tmp_path)
    free = told.f_bavail * told.f_frsize
    room.check_room(tmp_path, (free - (1 << 30)) // 2, "a release")  # others write meanwhile
    room.check_room(tmp_path, 0, "a release")
    with pytest.raises(StorageError, match="for a release of"):
        room.check_room(tmp_path, free // 2, "a release")


def test_a_release_that_is_sick_is_gone_back_from(board: Board) -> None:
    """It proves itself, and then its bundle answers wrong: three starts, and the release before runs again."""
    before = board.tree()
    board.offer(manner="sick")
    assert board.live() == 1 + launch.MOST_STARTS + 1
    as_before(board, before)
    assert "was not healthy in 3 starts" in board.told()


def test_going_back_by_hand_fetches_nothing(board: Board) -> None:
    """The release before is still there: it is proved and tried, and neither of the two is deleted."""
    board.offer()
    board.live()
    board.offer(name=OLD, sequence=2)
    for blob in (board.root / "shop" / "blobs").iterdir():
        blob.unlink()
    board.live()
    found = board.tree()
    assert found["current"] == f"-> releases/{OLD}"
    assert {name.split("/")[1] for name in found if name.startswith("releases/")} == {OLD, NEW}
    assert board.record.kept.done == 2


def test_the_two_newest_releases_are_kept(board: Board) -> None:
    """The one that runs and the one before; what is older goes when the new one has become healthy."""
    third = "0.3.0+cccccccc"
    board.offer()
    board.live()
    board.offer(name=third, sequence=2)
    board.live()
    assert {p.name for p in (board.home / "releases").iterdir()} == {NEW, third}
    assert board.tree()["current"] == f"-> releases/{third}"


def test_a_failed_release_may_be_named_again(board: Board) -> None:
    """A higher sequence with the same release: it is tried anew, since what was wrong may be mended."""
    board.offer(python="3.9")
    board.live()
    board.offer(sequence=2)
    board.live()
    assert board.tree()["current"] == f"-> releases/{NEW}"
    assert (board.record.kept.done, board.record.kept.failed_sequence) == (2, 1)
