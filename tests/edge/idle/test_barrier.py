"""The barrier in front of the worker, among a core, a hub and a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edge.core import Core
from edge.idle.barrier import Barrier
from edge.idle.decide import Readings
from edge.idle.settings import Idle
from edge.request import Request
from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board, status
from wire.memory import Network
from wire.messages import Job


@dataclass
class SlowLink(HereLink):
    """A worker that is at a job until a test lets it be done; it keeps who holds it."""

    budget_bytes: int | None = None
    asked: list[Request] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    stopped: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def submit(self, request: Request) -> None:
        self.asked.append(request)

    def finish(self) -> None:
        """Do what was asked last."""
        super().submit(self.asked[-1])

    def stop(self) -> None:
        self.stopped += 1

    def hold(self, why: str) -> None:
        self.held.add(why)

    def release(self, why: str) -> None:
        self.held.discard(why)


@dataclass
class Around:
    """What the board senses, as a test says."""

    now: Readings

    def __call__(self, pids: list[int]) -> Readings:
        return self.now


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board that was told what training waits for."""
    made = make_board(tmp_path)
    made.config = replace(made.config, idle=Idle(quiet_hours="22:00-06:00"))
    return made


def started(board: Board, link: Any) -> tuple[Farm, Core, Around]:
    """A farm whose agent senses what the test says."""
    farm, around = Farm(board, Network(), link), Around(Readings(12 * 60))
    core = farm.start()
    core.barrier = Barrier(board.config.idle, link, farm.clock, around)
    return farm, core, around


def test_a_job_waits_for_its_hour_and_is_not_lost(board: Board) -> None:
    """At noon the jobs are held and the hub hears why; at ten in the evening they are done, each once."""
    link = HereLink()
    farm, core, around = started(board, link)
    version = farm.hub.publish_version(board.manifest, 1)
    for job in jobs(version):
        farm.hub.ask(job)

    farm.run(seconds=120)

    assert link.done == []
    assert core.status.jobs[f"r1-train-{NAME}"]["state"] == "held"
    assert status(board)["training"] == {
        "state": "waits",
        "reason": "it is 12:00, outside of the quiet hours 22:00-06:00",
        "quiet_hours": "22:00-06:00",
    }
    assert farm.hub.hellos[-1].waits == "it is 12:00, outside of the quiet hours 22:00-06:00"
    around.now = Readings(22 * 60)
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    assert sorted(link.done) == sorted(job.job for job in jobs(version))
    assert farm.run(lambda: farm.hub.hellos[-1].waits == "", seconds=60)
    assert farm.hub.failed == {}


def test_what_has_begun_is_paused_and_goes_on(board: Board) -> None:
    """A worker is paused while the board is hot and goes on when it is cooler by five degrees; the update counts."""
    link = SlowLink()
    farm, core, around = started(board, link)
    around.now = cool = Readings(23 * 60, temperature_c=50.0)
    farm.hub.ask(jobs(farm.hub.publish_version(board.manifest, 1))[0])
    assert farm.run(lambda: link.asked)

    around.now = replace(cool, temperature_c=76.0)
    assert farm.run(lambda: link.held, seconds=20)
    assert core.status.jobs[f"r1-train-{NAME}"]["state"] == "held"
    around.now = replace(cool, temperature_c=72.0)
    farm.run(seconds=20)
    assert link.held
    around.now = replace(cool, temperature_c=69.0)
    assert farm.run(lambda: not link.held, seconds=20)

    link.finish()
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    assert core.barrier.record()["state"] == "none"


def test_a_job_that_waits_can_be_cancelled(board: Board) -> None:
    """When the hub no longer waits for a job that has not begun, it never begins, and the next one may."""
    link = HereLink()
    farm, core, around = started(board, link)
    version = farm.hub.publish_version(board.manifest, 1)
    train, statistics, _ = jobs(version)
    farm.hub.ask(train)
    assert farm.run(lambda: core.barrier.waiting is not None)

    farm.hub.cancel(train)
    farm.hub.ask(statistics)
    farm.run(seconds=30)
    around.now = Readings(23 * 60)

    assert farm.run(lambda: not farm.hub.open)
    assert link.done == [statistics.job]


def test_what_is_put_back_begins_again(board: Board) -> None:
    """Where the worker's memory is needed its job is ended, waits, and is done later as if nothing had been."""
    link = SlowLink()
    farm, core, around = started(board, link)
    around.now = Readings(23 * 60)
    farm.hub.ask(jobs(farm.hub.publish_version(board.manifest, 1))[0])
    assert farm.run(lambda: link.asked)
    core.barrier.asked_at = farm.clock.at

    assert core.barrier.put_back()

    assert (link.stopped, core.barrier.record()["state"]) == (1, "waits")
    farm.run(seconds=8)
    assert len(link.asked) == 1  # the last request was less than ten seconds ago
    assert farm.run(lambda: len(link.asked) == 2, seconds=30)
    link.finish()
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    assert not core.barrier.put_back()


def test_a_board_that_was_told_nothing_trains_at_once(tmp_path: Path) -> None:
    """Without a table `[idle]` neither hour nor load is looked at: a job begins in the turn in which it comes."""
    board = make_board(tmp_path)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    farm.hub.ask(Job(NAME, "r1", "train", 1, (farm.hub.publish_version(board.manifest, 1),), {"steps": 1}))

    assert farm.run(lambda: not farm.hub.open, seconds=30)
    assert core.barrier.record() == {"state": "none", "reason": "", "quiet_hours": ""}
