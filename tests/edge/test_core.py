"""The core among a hub and a network that loses, repeats and reorders."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge import load
from edge.data import read_data
from edge.jobs import adapter_of
from edge.request import Request
from edge.train import TrainSettings, train
from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board, status
from wire.adapter import read_adapter
from wire.memory import Network
from wire.messages import Job, Version, decode


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle and 24 rows."""
    return make_board(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_every_job_counts_once_on_a_bad_network(board: Board, seed: int) -> None:
    """With a third of all messages lost, repeated or reordered, every job is computed once and accepted once."""
    farm = Farm(board, Network(seed=seed, lose=0.3, repeat=0.3, reorder=0.5), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    for job in jobs(version):
        farm.hub.ask(job)
    farm.hub.release(version, 1, 1)

    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates and core.store.released.served is not None)

    link = core.link
    assert isinstance(link, HereLink)
    assert sorted(link.done) == sorted(j.job for j in jobs(version))
    assert sorted(b.kind for b, _ in farm.hub.accepted.values()) == ["adapter", "scores", "statistics"]
    assert core.outbox.receipted_jobs() == [j["job"] for j in status_jobs(core)]
    assert farm.network.endpoints[NAME].errors == []


def status_jobs(core: Any) -> list[dict[str, Any]]:
    """The status's jobs, in the order of their receipts."""
    order = core.outbox.receipted_jobs()
    return sorted(core.status.jobs.values(), key=lambda j: order.index(j["job"]))


@pytest.mark.parametrize("seed", range(4))
def test_an_agent_that_is_killed_again_and_again_loses_nothing(board: Board, seed: int) -> None:
    """Killed at random moments and started again, the agent brings every update to a receipt, each accepted once."""
    dice = random.Random(seed)
    farm = Farm(board, Network(seed=seed, lose=0.2, repeat=0.2, reorder=0.3), HereLink())
    version = farm.hub.publish_version(board.manifest, 1)
    for round_ in (1, 2):
        for job in jobs(version, round_):
            farm.hub.ask(job)
    for _ in range(12):
        farm.start()
        farm.run(seconds=dice.choice([1.0, 2.0, 3.0, 8.0]))
        farm.kill()
    core = farm.start()

    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)

    by_job = [begin.job for begin, _ in farm.hub.accepted.values()]
    assert sorted(set(by_job)) == sorted(j.job for r in (1, 2) for j in jobs(version, r))
    assert set(core.outbox.receipted_jobs()) == set(by_job)


def test_an_agent_takes_the_rungs_of_its_rank_only(board: Board) -> None:
    """Of a ladder of 8 a board of rank 2 fetches the rungs [0, 1) and [1, 2) and the head, and nothing else."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1, rank=8)
    farm.hub.release(version, 1, 1)
    assert farm.run(lambda: farm.core is not None and farm.core.store.released.served is not None)

    parts = decode(farm.hub.bodies[version], Version)
    assert {f.blob for f in farm.hub.fetches} == {parts.rungs[0].blob, parts.rungs[1].blob, parts.head}
    farm.run(seconds=2)
    assert farm.hub.hellos[-1].released == 1
    assert farm.hub.hellos[-1].runtime == f"onnxruntime {onnxruntime.__version__}"


def test_a_version_that_was_never_announced_is_fetched_by_its_digest(board: Board) -> None:
    """A signed job names a version by digest; the bytes with that digest need no signature of their own."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1, announce=False)
    farm.hub.ask(jobs(version)[1])

    assert farm.run(lambda: not farm.hub.open)


def test_a_hub_that_comes_later_hears_the_hello(board: Board) -> None:
    """Said while nobody listened, a hello is said again with growing pauses until a hub is there, and then no more."""
    farm = Farm(board, Network(), HereLink())
    there = farm.network.endpoints["hub"].patterns
    kept = there.copy()
    there.clear()
    core = farm.start()
    farm.run(seconds=300)
    said = sum(t.endswith("/hello") for t, _ in farm.network.history)
    assert 5 <= said <= 20
    assert farm.hub.hellos == []

    there.extend(kept)
    assert farm.run(lambda: bool(farm.hub.hellos))
    farm.run(seconds=200)
    assert len(farm.hub.hellos) == 1
    assert core.hearing.record(farm.clock.at)["hub_listens"]


def test_a_cancelled_job_makes_room(board: Board) -> None:
    """A job that waits for blobs which never come is dropped by a cancel, and the next one is done."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    lost = Job(NAME, "r1-train-lost", "train", 1, ("9" * 64,))
    farm.hub.ask(lost)
    farm.hub.ask(jobs(version)[1])
    farm.run(seconds=20)
    assert core.life.job == lost

    farm.hub.cancel(lost)

    assert farm.run(lambda: not farm.hub.open)


def test_blobs_that_never_come_end_in_words(board: Board) -> None:
    """After ten minutes without the version of a job the hub is told what was expected."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    farm.hub.ask(Job(NAME, "r1-train-lost", "train", 1, ("9" * 64,)))

    assert farm.run(lambda: not farm.hub.open, seconds=900, nag=False)
    assert "expected 999999999999 from the hub within" in farm.hub.failed["r1-train-lost"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "wrong settings": ({"settings": {"steps": 0}}, "steps: expected at least 1, found 0"),
    "a minimum that no class has": (
        {"kind": "statistics", "settings": {"minimum_per_class": 99}},
        "expected at least 99 rows of one class",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_a_job_that_cannot_be_done_says_why(board: Board, change: dict[str, Any], words: str) -> None:
    """The hub gets the reason, the status keeps it, and the next job is done."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    given: dict[str, Any] = {"kind": "train", "settings": {}, **change}
    farm.hub.ask(Job(NAME, "bad", given["kind"], 1, (version,), given["settings"]))
    farm.hub.ask(jobs(version)[1])

    assert farm.run(lambda: not farm.hub.open)

    assert words in farm.hub.failed["bad"]
    assert words in core.status.jobs["bad"]["reason"]
    assert len(farm.hub.accepted) == 1


def test_the_status_says_what_was_done_and_what_it_cost(board: Board) -> None:
    """Released version, jobs with their figures, bytes by round; a restart goes on counting."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 3)
    farm.hub.release(version, 1, 3)
    for job in jobs(version, 4):
        farm.hub.ask(job)
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    core.close()
    found = status(board)

    assert (found["device"], found["rank"], found["samples"], found["connected"]) == (NAME, 2, 24, False)
    assert found["released"] == {"version": 3, "digest": version, "sequence": 1}
    assert [j["state"] for j in found["jobs"]] == ["accepted"] * 3
    assert found["jobs"][0]["seconds_per_step"] > 0
    sent = sum(len(t) + len(p) for t, p in farm.network.history if f"/up/{NAME}/" in t)
    assert found["bytes_up"] == sent
    assert found["bytes_up"] == sum(r["up"] for r in found["bytes_by_round"].values())
    assert found["bytes_by_round"]["4"]["up"] > 0

    assert core.setup.lock is not None
    core.setup.lock.close()
    again = farm.start()
    farm.run(seconds=3)
    assert again.status.traffic.up > sent
    assert len(again.status.jobs) == 3


def test_training_moves_what_the_hub_gets(board: Board) -> None:
    """The factors that arrive are those of in-process training with the same settings, bit for bit."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    job = jobs(version)[0]
    farm.hub.ask(job)
    assert farm.run(lambda: not farm.hub.open)
    ((_, data),) = farm.hub.accepted.values()

    body = decode(farm.hub.bodies[version], Version)
    request = Request(job.job, "train", 1, (version,), (body,), core.setup.place, "", job.settings)
    rows = read_data(board.config.data, ("a", "b", "c"), "text", board.config.holdout).train
    run = load(board.bundle).runner
    expected = train(run, adapter_of(request, 0, run.manifest), rows, TrainSettings(2, 4, 0.01, seed=3)).adapter

    for name, factors in read_adapter(data, "it").lora.items():
        np.testing.assert_array_equal(factors.b, expected.lora[name].b)
        assert np.abs(factors.b).max() > 0
