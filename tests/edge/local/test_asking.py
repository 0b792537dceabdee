"""The thread that has requests answered: turns, deadlines, and how the worker makes way."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.local import asking as module
from edge.local.asking import Asking
from edge.local.refused import Refused
from edge.local.sample import Sample
from edge.local.table import Local
from tests.edge.boards import NAME, Farm, make_board
from tests.edge.idle.test_barrier import SlowLink
from wire.memory import Network
from wire.messages import Job

# a process that answers: it says what it was asked, after as long as the text says
ANSWERS = """
import sys, time
from edge.request import read_frame, write_frame
while (frame := read_frame(sys.stdin.buffer)) is not None:
    text = sys.stdin.buffer.read(frame[1]["pieces"][0]["size"]).decode()
    if text == "die":
        sys.exit(3)
    time.sleep(float(text))
    write_frame(sys.stdout.buffer, "result", {"id": frame[1]["id"], "said": text})
"""


class Watched(SlowLink):
    """Remembers when it was held."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []

    def hold(self, why: str) -> None:
        super().hold(why)
        self.story.append(f"hold {why}")

    def release(self, why: str) -> None:
        super().release(why)
        self.story.append(f"release {why}")


@contextmanager
def asked(folder: Path, deadline_s: float = 20.0) -> Iterator[tuple[Farm, Asking, Watched]]:
    """A core that turns when a test says so, and its asking."""
    board = make_board(folder)
    board.config = replace(board.config, local=Local(deadline_s=deadline_s))
    link = Watched()
    farm = Farm(board, Network(), link)
    core = farm.start()
    asking = Asking(core, (sys.executable, "-c", ANSWERS))
    asking.start()
    try:
        yield farm, asking, link
    finally:
        asking.close()
        assert core.setup.lock is not None
        core.setup.lock.close()


def text(said: str) -> list[Sample]:
    """A text as samples."""
    return [Sample("text", said.encode())]


def until(true: Callable[[], Any]) -> bool:
    """Wait for something."""
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(true())


def test_the_worker_is_held_until_the_last_answer(tmp_path: Path) -> None:
    """Three requests at once are answered one after the other, each with its own answer; the worker rests meanwhile."""
    with asked(tmp_path) as (farm, asking, link):
        found: list[str] = []
        sayings = ["0.1", "0.11", "0.12"]

        def ask(said: str) -> None:
            found.append(asking.ask("infer", text(said))["said"])

        threads = [threading.Thread(target=ask, args=(said,)) for said in sayings]
        for thread in threads:
            thread.start()
        assert until(lambda: link.held)
        for thread in threads:
            thread.join()

        assert sorted(found) == sayings
        assert until(lambda: not link.held)
        assert link.story[0] == f"hold {module.ASKED}"
        assert link.story[-1] == f"release {module.ASKED}"
        assert farm.core is not None
        assert farm.core.barrier.asked_at == farm.clock.at


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """After the deadline the request gets 504 and the process is ended; the next one is answered by another."""
    with asked(tmp_path, deadline_s=1.5) as (_, asking, link):
        started = time.monotonic()
        with pytest.raises(Refused, match=r"expected an answer within 1.5 s, found none") as found:
            asking.ask("infer", text("60"))
        assert found.value.status == 504
        assert time.monotonic() - started < 10
        assert until(lambda: not link.held)
        assert asking.ask("infer", text("0"))["said"] == "0"


def test_a_process_that_dies_costs_one_request(tmp_path: Path) -> None:
    """The request that killed it gets 500 with what happened, the next one an answer."""
    with asked(tmp_path) as (_, asking, _link):
        with pytest.raises(Refused, match="the worker ended with exit code 3") as found:
            asking.ask("infer", text("die"))
        assert found.value.status == 500
        assert asking.ask("infer", text("0"))["said"] == "0"


def test_requests_that_wait_have_a_bound(tmp_path: Path) -> None:
    """While one is answered sixteen may wait; the one after them gets 503 at once, and all others their answer."""
    with asked(tmp_path) as (_, asking, link):
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(asking.ask("infer", text("0.2"))))
            for _ in range(module.QUEUE + 1)
        ]
        threads[0].start()
        assert until(lambda: asking.link.busy)
        for thread in threads[1:]:
            thread.start()
        assert until(asking._turns.full)  # there is no other sign of it
        with pytest.raises(Refused, match="expected fewer than 16 requests to wait") as found:
            asking.ask("infer", text("0"))
        for thread in threads:
            thread.join()

        assert found.value.status == 503
        assert len(answers) == module.QUEUE + 1
        assert until(lambda: not link.held)


def test_without_memory_for_both_the_job_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request ends a job that trains and is answered; its process ends before the job begins again."""
    with asked(tmp_path) as (farm, asking, link):
        core = farm.core
        assert core is not None
        core.barrier.room = asking.make_room
        monkeypatch.setattr(module, "_fits", lambda need: False)
        farm.hub.ask(Job(NAME, "r1", "train", 1, (farm.hub.publish_version(farm.board.manifest, 1),), {"steps": 1}))
        assert farm.run(lambda: link.asked)

        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(asking.ask("infer", text("0"))))
        thread.start()
        while thread.is_alive():
            core.turn()
            thread.join(0.01)

        assert answers == [{"said": "0"}]
        assert link.stopped == 1
        assert core.barrier.record()["reason"] == "the last request came less than 10 s ago"
        farm.clock.at += 11
        assert until(lambda: core.turn() >= 0 and len(link.asked) == 2)
        assert asking.link.pid is None
        link.finish()
        assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)


def test_an_agent_that_ends_answers_those_who_wait(tmp_path: Path) -> None:
    """Whoever waits for an answer when the agent ends is told so, and not left alone."""
    refused: list[Refused] = []
    with tempfile.TemporaryDirectory():
        with asked(tmp_path) as (_, asking, _link):

            def ask() -> None:
                try:
                    asking.ask("infer", text("60"))
                except Refused as found:
                    refused.append(found)

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            assert until(lambda: asking.link.busy)
        for thread in threads:
            thread.join(10)
    assert [found.status for found in refused] == [503, 503]
