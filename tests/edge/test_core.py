"""The core among a hub and a network that loses, repeats and reorders."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from console.errors import StorageError
from edge import load
from edge.data import read_data
from edge.jobs import adapter_of
from edge.request import Request
from edge.train import TrainSettings, train
from tests.edge.boards import Board, Farm, HereLink, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from wire.adapter import read_adapter
from wire.files import digest
from wire.keys import new_key
from wire.memory import Network
from wire.messages import Canary, Chunk, Job, Missing, Receipt, Release, Version, decode, encode
from wire.scores import read_scores
from wire.topics import topic_of

NAME = "barn-1"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle and 24 rows."""
    return make_board(tmp_path)


def jobs(version: str, round_: int = 1) -> list[Job]:
    """One of each kind."""
    train = {"steps": 2, "batch": 4, "learning_rate": 0.01, "seed": 3}
    return [
        Job(NAME, f"r{round_}-train-{NAME}", "train", round_, (version,), train),
        Job(NAME, f"r{round_}-statistics-{NAME}", "statistics", round_, (version,)),
        Job(NAME, f"r{round_}-gate-{NAME}", "evaluate", round_, (version,), {"ranks": [1, 2]}),
    ]


def status(board: Board) -> dict[str, Any]:
    """What the agent says of itself."""
    found: dict[str, Any] = json.loads((board.config.state / "status.json").read_text())
    return found


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


def test_updates_say_what_they_are(board: Board) -> None:
    """The hub gets factors at the board's rank, statistics of the training rows, and counts of the hold-out."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1, rank=4)
    for job in jobs(version):
        farm.hub.ask(job)
    assert farm.run(lambda: not farm.hub.open)

    found = {begin.kind: (begin, data) for begin, data in farm.hub.accepted.values()}
    begin, data = found["adapter"]
    adapter = read_adapter(data, "it")
    assert {f.rank for f in adapter.lora.values()} == {2}
    assert (begin.base, adapter.version, adapter.metadata["job"]) == (version, version, f"r1-train-{NAME}")
    assert begin.metrics["steps"] == 2
    assert begin.metrics["loss_last"] > 0
    _, data = found["statistics"]
    held_out = board.manifest.labels and 24 - int(found["statistics"][0].samples)
    statistics = read_adapter(data, "it").statistics
    assert list(statistics) == [2]
    assert statistics[2].count.sum() == found["statistics"][0].samples
    scores = read_scores(found["scores"][1], 3, "it")
    assert [s.rank for s in scores] == [1, 2]
    assert sum(scores[0].count) == held_out == found["scores"][0].samples > 0


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


def forged_version(farm: Farm) -> None:
    """A version signed by a stranger."""
    version = farm.hub.publish_version(farm.board.manifest, 7, key=new_key("hub", "stranger"))
    farm.hub.release(version, 9, 7, key=new_key("hub", "stranger"))


def device_signed(farm: Farm) -> None:
    """A release signed by a device's key: another role."""
    farm.hub.release("7" * 64, 9, 7, key=farm.board.key)


def other_model(farm: Farm) -> None:
    """A release of another model on our topic."""
    farm.hub.say("all", Release.TYPE, encode(Release("other", 9, 7, "7" * 64)))


def garbage(farm: Farm) -> None:
    """Bytes that are nothing."""
    for kind in (Version.TYPE, Release.TYPE):
        farm.hub.transport.publish(topic_of(FLEET, MODEL, "all", kind), b"\xc1 nothing")


def lower_sequence(farm: Farm) -> None:
    """A replayed release."""
    farm.hub.release("7" * 64, 3, 7)


def trial_of_another(farm: Farm) -> None:
    """The trial of another device, replayed on our topic and on everybody's."""
    farm.hub.canary("7" * 64, 9, 7, "barn-2", topic=NAME)
    farm.hub.say("all", Release.TYPE, encode(Canary("barn-2", MODEL, 9, 7, "7" * 64)))


NOT_BELIEVED = (forged_version, device_signed, other_model, garbage, lower_sequence, trial_of_another)


@pytest.mark.parametrize("attack", NOT_BELIEVED, ids=lambda f: f.__name__)
def test_what_is_not_believed_changes_nothing(board: Board, attack: Any) -> None:
    """A stranger's signature, another role or model, garbage, a replay: the release stays, no version is kept."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    good = farm.hub.publish_version(board.manifest, 1)
    farm.hub.release(good, 5, 1)
    assert farm.run(lambda: core.store.released.served is not None)
    before = sorted(p.name for p in core.store.versions.iterdir())

    attack(farm)
    farm.run(seconds=5)

    assert core.store.released.served == core.store.released.seen == Release(MODEL, 5, 1, good)
    assert sorted(p.name for p in core.store.versions.iterdir()) == before
    assert farm.network.endpoints[NAME].errors == []


def test_a_trial_is_served_until_the_next_release(board: Board) -> None:
    """A canary serves the version of its trial, past a restart; the release of the old version takes it back."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    old, new = (farm.hub.publish_version(board.manifest, n) for n in (1, 2))

    def served() -> tuple[int, int] | None:
        found = core.store.released.served
        return None if found is None else (found.sequence, found.version)

    farm.hub.release(old, 5, 1)
    assert farm.run(lambda: served() == (5, 1))
    farm.hub.canary(new, 6, 2, NAME)
    assert farm.run(lambda: served() == (6, 2))
    assert farm.run(lambda: farm.hub.hellos[-1].released == 2)

    farm.hub.release(old, 5, 1)
    farm.kill()
    core = farm.start()
    farm.run(seconds=5)
    assert served() == (6, 2)

    farm.hub.release(old, 7, 1)
    assert farm.run(lambda: served() == (7, 1))


def test_a_job_for_somebody_else_is_not_done(board: Board) -> None:
    """A signed job that names another device is ignored on our topic."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest)
    other = Job("barn-2", "r1-train-barn-2", "train", 1, (version,))
    farm.hub.say("down", Job.TYPE, encode(other), NAME)
    farm.run(seconds=5)

    assert core.life.job is None
    assert core.status.jobs == {}


def test_a_flipped_chunk_is_fetched_again(board: Board) -> None:
    """A blob whose bytes are wrong is not stored; the agent asks again and goes on."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    right = dict(farm.hub.blobs)
    topic = topic_of(FLEET, MODEL, "down", Chunk.TYPE, NAME)

    def wrong() -> None:
        for name, data in right.items():
            chunk = Chunk(name, 0, 1, bytes([data[0] ^ 1]) + data[1:])
            farm.hub.transport.publish(topic, encode(chunk))

    farm.hub.blobs.clear()
    farm.hub.release(version, 1, 1)
    farm.run(seconds=3)
    wrong()
    farm.run(seconds=3)
    assert core.store.released.served is None
    assert list(core.store.blobs.iterdir()) == []
    farm.hub.blobs.update(right)

    assert farm.run(lambda: core.store.released.served is not None)
    assert all(digest(p.read_bytes()) == p.name for p in core.store.blobs.iterdir())


def test_without_a_receipt_an_update_is_kept_and_sent_again(board: Board) -> None:
    """A hub that never answers is asked with growing pauses, chunks are not repeated, and a restart changes nothing."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.deaf = True
    farm.hub.ask(jobs(version)[0])
    farm.hub.open.clear()
    farm.run(seconds=300)
    (name,) = core.outbox.updates
    sent = [t.rpartition("/")[2] for t, _ in farm.network.history]
    assert sent.count("chunk") == 1 + len(farm.hub.fetches)
    assert 6 <= sent.count("commit") <= 16

    farm.kill()
    core = farm.start()
    assert list(core.outbox.updates) == [name]
    farm.hub.deaf = False
    assert farm.run(lambda: not core.outbox.updates)
    assert list(farm.hub.accepted) == [name]


def test_what_a_hub_lacks_is_sent_and_nothing_else(board: Board) -> None:
    """Ranges name chunks, indexes do where a hub knows no ranges; what is no chunk of the update is left out."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.deaf = True
    farm.hub.ask(jobs(version)[0])
    farm.run(lambda: bool(core.outbox.updates), seconds=20)
    (name,) = core.outbox.updates
    asked: list[tuple[int, ...] | None] = []
    core.outbox.chunks = lambda update, indexes: iter(asked.append(indexes) or ())  # type: ignore[method-assign, func-returns-value]  # looks on

    for missing in (
        Missing(NAME, name, (1,), ranges=((0, 2), (5, 5))),
        Missing(NAME, name, (4, 1)),
        Missing(NAME, name, ranges=((1 << 62, (1 << 63) - 1), (3, 2), (7,), (0, 1 << 40))),
        Missing(NAME, name, begin=True),
    ):
        farm.hub.say("down", Missing.TYPE, encode(missing), NAME)
        farm.run(seconds=1)

    assert asked == [(0, 1, 2, 5), (4, 1), tuple(range(1024)), None]


def test_a_full_outbox_takes_no_further_job_and_says_so(board: Board) -> None:
    """While updates without a receipt fill the quota the next job is declined with the reason; none of them is lost."""
    farm = Farm(replace(board, config=replace(board.config, outbox_bytes=1)), Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.deaf = True
    first, second = jobs(version)[0], jobs(version, 2)[0]
    for job in (first, second):
        farm.hub.ask(job)
        farm.run(seconds=20)

    assert [update.job for update in core.outbox.updates.values()] == [first.job]
    assert list(farm.hub.failed) == [second.job]
    assert "expected room for another update of" in farm.hub.failed[second.job]

    farm.hub.deaf = False
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    third = jobs(version, 3)[0]
    farm.hub.ask(third)
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    assert core.outbox.receipted_jobs() == [first.job, third.job]


def test_a_receipt_that_cannot_be_kept_comes_again(board: Board) -> None:
    """While the disk is full an update that has its receipt waits as before; with room the next receipt lets it go."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    keep, tried = core.outbox._records.receipt, []

    def full(row: dict[str, Any], few: int) -> None:
        tried.append(row["job"])
        raise StorageError("expected to write, found: database or disk is full; free some space")

    core.outbox._records.receipt = full  # type: ignore[method-assign, assignment]  # what SQLite says on a full disk
    (job, *_) = jobs(version)
    farm.hub.ask(job)
    farm.run(seconds=100)
    assert 2 <= len(tried) < 20
    assert list(core.outbox.updates) == list(core.life.waiting)

    core.outbox._records.receipt = keep  # type: ignore[method-assign]  # there is room again
    assert farm.run(lambda: not core.outbox.updates)
    assert core.outbox.receipted_jobs() == [job.job]
    assert len(farm.hub.accepted) == 1


def test_what_is_longer_than_a_chunk_is_announced(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning and its commit are said, and its bytes when the hub asks for them; what is short goes at once."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    said: list[list[str]] = []
    for job in jobs(version)[:2]:
        before = len(farm.network.history)
        farm.hub.ask(job)
        farm.run(lambda job=job: any(b.job == job.job for b, _ in farm.hub.accepted.values()), seconds=20)
        ways = [topic.split("/")[-3::2] for topic, _ in farm.network.history[before:]]
        said.append([kind for way, kind in ways if (way == "up") == (kind in ("begin", "chunk", "commit"))])
        monkeypatch.setattr("wire.messages.CHUNK_BYTES", 64)

    told = [[kind for kind in one if kind in ("begin", "chunk", "commit", "missing", "receipt")] for one in said]
    assert told[0] == ["begin", "chunk", "commit", "receipt"]
    assert told[1] == ["begin", "commit", "missing", "chunk", "commit", "receipt"]


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


def test_other_labels_are_refused_by_name(board: Board) -> None:
    """A version over other classes than the bundle's is not trained on."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(replace(board.manifest, labels=("x", "y", "z")), 1)
    farm.hub.ask(jobs(version)[0])

    assert farm.run(lambda: not farm.hub.open)
    assert "expected the labels of the bundle (a, b, c)" in farm.hub.failed[f"r1-train-{NAME}"]


def test_a_changed_bundle_is_refused_while_the_agent_runs(board: Board) -> None:
    """A byte that flips on the card after the start ends the next job with words, and nothing is computed."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    path = board.folder / "bundle" / "segment1.backward.train.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    farm.hub.ask(jobs(version)[0])

    assert farm.run(lambda: not farm.hub.open)
    assert "segment1.backward.train.onnx has another SHA-256" in farm.hub.failed[f"r1-train-{NAME}"]


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


def test_a_receipt_of_a_stranger_does_not_empty_the_outbox(board: Board) -> None:
    """Only the hub's receipt lets an update go."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.deaf = True
    farm.hub.ask(jobs(version)[0])
    farm.run(lambda: bool(core.outbox.updates), seconds=20)
    (name,) = core.outbox.updates
    forged = encode(Receipt(NAME, name, "accepted"))
    farm.hub.say("down", Receipt.TYPE, forged, NAME, key=new_key("hub", "stranger"))
    farm.run(seconds=3)

    assert list(core.outbox.updates) == [name]


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
