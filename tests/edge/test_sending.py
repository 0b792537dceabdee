"""How the core's updates reach a hub: chunks, receipts, and an outbox that holds what has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import StorageError
from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from wire.adapter import read_adapter
from wire.files import digest
from wire.memory import Network
from wire.messages import Chunk, Missing, encode
from wire.scores import read_scores
from wire.topics import topic_of


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle and 24 rows."""
    return make_board(tmp_path)


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
    name = farm.unanswered(board.manifest)
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
