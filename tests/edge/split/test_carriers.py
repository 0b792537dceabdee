"""One contract for all that carries what two halves of a split job say to each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.boards import Board
from tests.edge.split.places import BARN, COOP, PLACES, Two, make_boards, two
from wire.messages import PART_LIMIT_BYTES

HERE = [pytest.param(name, marks=pytest.mark.fleet if "mosquitto" in name else ()) for name in PLACES]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Board]:
    """The files of a board and of a tail."""
    return make_boards(tmp_path_factory.mktemp("halves"))


@pytest.fixture
def halves(request: pytest.FixtureRequest, boards: dict[str, Board], tmp_path: Path) -> Iterator[Two]:
    """Both agents, with what the test names between them."""
    faster = 1.0 if "mosquitto" in request.param else 60.0
    with two(PLACES[request.param](tmp_path / "place"), boards, faster) as made:
        yield made


everywhere = pytest.mark.parametrize("halves", HERE, indirect=True)


@pytest.mark.parametrize("halves", ["memory"], indirect=True)
def test_a_job_that_ends_well_warns_of_nothing(halves: Two, caplog: pytest.LogCaptureFixture) -> None:
    """Neither half complains where the other one was done first, whichever that was."""
    for number, late in enumerate((BARN, COOP)):
        job = f"r1-train-late-{number}"
        halves.ask(BARN, job, rest_s=0.5 * (late == BARN))
        halves.ask(COOP, job, rest_s=0.5 * (late == COOP))
        halves.run(halves.done)
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert not [words for words in said if "r1-train-late" in words]


@everywhere
def test_what_is_said_comes_to_the_other_half(halves: Two) -> None:
    """Notes of many sizes go forth and back whole, in order and once, and both halves have their update."""
    for size in (0, 1, 70_000, 2 * PART_LIMIT_BYTES, 2 * PART_LIMIT_BYTES + 1):
        job = f"r1-train-{size:08d}"
        halves.ask(BARN, job, bytes=size, notes=2)
        halves.ask(COOP, job, bytes=size)
        halves.run(halves.done)
    assert halves.counts(COOP)["oversize"] == 0
