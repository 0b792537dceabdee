"""So many boards are served at a time, the others in their order, each by a worker of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.request import Place, Request
from edge.split.seats import Seats
from tests.edge.boards import HereLink


@dataclass
class Quiet(HereLink):
    """A worker that answers when the test says so."""

    all: list[Quiet] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def submit(self, request: Request) -> None:
        self.jobs.append(request.id)

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        self.told.append(kind)

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("close")

    def another(self) -> Quiet:
        self.all.append(Quiet(self.all))
        return self.all[-1]


def request(name: str) -> Request:
    """A tail's job."""
    return Request(name, "tail", 1, (), (), Place("", "", "", 0.0, ""), "")


def test_seats_are_taken_and_given_on(tmp_path: Path) -> None:
    """Two seats, three boards: the third begins when one of the others is over, with its worker."""
    made, begun = Quiet(), list[str]()
    seats = Seats(made.another, lambda one: begun.append(one.id), lambda kind, fields: None, 2)
    for name in ("a", "b", "c"):
        seats.begin(request(name))
    assert begun == ["a", "b"]
    assert [worker.jobs for worker in made.all] == [["a"], ["b"]]
    assert seats.tell("b", "note", {})
    assert not seats.tell("c", "note", {})
    seats.over("b")
    assert seats.jobs == ("a", "c")
    assert [worker.jobs for worker in made.all] == [["a"], ["b", "c"]]


def test_a_tail_that_is_not_waited_for_gives_its_seat_on() -> None:
    """Whether it runs, which ends its worker's job, or waits; at the end all workers end."""
    made = Quiet()
    seats = Seats(made.another, lambda one: None, lambda kind, fields: None, 1)
    for name in ("a", "b", "c"):
        seats.begin(request(name))
    seats.stop("b")
    seats.stop("a")
    assert seats.jobs == ("c",)
    assert made.all[0].told == ["stop"]
    seats.close()
    assert made.all[0].told == ["stop", "close"]
    assert not seats.jobs
