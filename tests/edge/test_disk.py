"""What an agent keeps on disk, and what a kill leaves of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, IntegrityError, StorageError
from edge.outbox import FEWEST_RECEIPTS, RECEIPT_BYTES, Outbox, read_receipts
from edge.residuals import Residuals, beside
from edge.store import KEEP_VERSIONS, Store
from tests.conftest import ROOT
from wire.files import digest
from wire.messages import CHUNK_BYTES, Release, Rung, Version, encode


def every_kill(story: str, folder: Path) -> list[dict[str, Any]]:
    """What is left after a kill before each step of a story; the last entry is the whole story."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge.killed", story, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_update_survives_a_kill_between_any_two_steps(tmp_path: Path) -> None:
    """Once put, an update is whole on disk until its receipt is; nothing half-written is left, nothing comes twice."""
    left = every_kill("outbox", tmp_path)

    assert len(left) > 20
    assert left[-1]["said"] == ["put", "receipted"]
    for found in left:
        assert found["whole"]
        assert found["files"] == [".update"] * len(found["updates"])
        assert len(found["updates"]) + len(found["receipted"]) <= 1
        if "put" in found["said"]:
            assert found["updates"] or found["receipted"] == ["r1-gate-a"]
        if "receipted" in found["said"]:
            assert (found["updates"], found["receipted"]) == ([], ["r1-gate-a"])


def test_an_older_outbox_is_taken_over_at_any_kill(tmp_path: Path) -> None:
    """What an agent from before SQLite left is there as a whole after every kill, once, and its files are gone."""
    left = every_kill("old-outbox", tmp_path)

    assert len(left) > 20
    for found in left:
        assert found["whole"]
        assert found["files"] == [".update"] * len(found["updates"])
        assert not found["old"]
        assert found["receipted"][0] == "r0-gate-a"
        assert len(found["updates"]) + len(found["receipted"]) == 2
    assert left[-1]["receipted"] == ["r0-gate-a", "r1-gate-a"]


def test_what_an_update_lost_is_made_good_once_at_any_kill(tmp_path: Path) -> None:
    """The next update makes good what the last one that counted lost: the old loss until then, the new one after.

    While the update waits and may count or not, nothing is made good.
    """
    left = every_kill("residuals", tmp_path)

    assert len(left) > 8
    for found in left:
        if found["done"]:
            assert (found["waits"], found["next"]) == (False, "new")
        elif found["waits"]:
            assert found["next"] in ("", "new")  # new: its receipt has come, and will come again
        else:
            assert found["next"] == "old"
    assert {(f["waits"], f["next"]) for f in left} >= {(False, "old"), (True, ""), (True, "new"), (False, "new")}


def test_a_refused_update_leaves_the_old_loss(tmp_path: Path) -> None:
    """What a refused update lost is dropped, and the loss before it stays to be made good."""
    lost = Residuals(tmp_path, ())
    for text, counts in (("first", True), ("second", False)):
        payload = tmp_path / "payload"
        beside(payload).write_text(text)
        lost.expect("a" * 64, payload)
        assert lost.next() == ""
        lost.settle("a" * 64, counts=counts)

    assert Path(lost.next()).read_text() == "first"
    assert [path.name for path in lost.folder.iterdir()] == ["counts"]


def test_the_release_never_goes_back_at_any_kill(tmp_path: Path) -> None:
    """What was followed stays followed, what is served is whole, and an older release is refused after every kill."""
    left = every_kill("store", tmp_path)

    assert len(left) > 8
    for found in left:
        assert found["seen"] == (2 if "followed" in found["said"] else found["seen"])
        assert found["seen"] in (1, 2)
        assert found["served"] in (1, 2)
        assert not found["back"]
        if "stored" in found["said"] or found["served"] == 2:
            assert found["version"]
            assert found["blob"]
    assert left[-1]["served"] == 2


def put(box: Outbox, folder: Path, data: bytes, job: str = "r1-train-a") -> str:
    """Put an update."""
    path = folder / "payload"
    path.write_bytes(data)
    return box.put(path, kind="adapter", job=job, round_=1, base="0" * 64, samples=3, metrics={"loss": 0.5}).update


def test_chunks_are_those_of_the_payload(tmp_path: Path) -> None:
    """All chunks together are the bytes, asked-for ones come alone, indexes that do not exist are left out."""
    box, data = Outbox(tmp_path), bytes(range(256)) * 600  # 2.3 chunks
    name = put(box, tmp_path, data)

    assert b"".join(c.data for c in box.chunks(name, None)) == data
    assert [(c.index, c.total) for c in box.chunks(name, (2, 7))] == [(2, 3)]
    assert next(box.chunks(name, (1,))).data == data[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert Outbox(tmp_path).updates == box.updates


def test_what_is_no_update_is_refused(tmp_path: Path) -> None:
    """An empty payload is refused by words; one whose bytes changed on disk is dropped at the next start."""
    box = Outbox(tmp_path)
    with pytest.raises(BadData, match="expected an update of 1 to"):
        put(box, tmp_path, b"")
    name = put(box, tmp_path, b"some bytes")
    (tmp_path / "outbox" / f"{name}.update").write_bytes(b"other bytes")

    assert Outbox(tmp_path).updates == {}
    assert list((tmp_path / "outbox").glob("*.update")) == []


def test_old_receipts_make_room_and_updates_never_do(tmp_path: Path) -> None:
    """Of receipts the latest stay, fewer the more updates wait; an update beyond the quota is kept, no other begun."""
    box = Outbox(tmp_path, quota_bytes=100 * RECEIPT_BYTES)
    for number in range(130):
        box.receipt(put(box, tmp_path, b"%03d" % number, job=f"r{number}-train-a"), "accepted", "")
    assert box.receipted_jobs() == [f"r{number}-train-a" for number in range(30, 130)]
    assert box.no_room("adapter") == ""

    large = put(box, tmp_path, bytes(99 * RECEIPT_BYTES))
    box.receipt(put(box, tmp_path, b"last", job="last"), "accepted", "")
    assert len(box.receipted_jobs()) == FEWEST_RECEIPTS
    assert "expected room for another update of" in box.no_room("adapter")
    assert box.no_room("scores") == ""  # small as far as is known
    more = put(box, tmp_path, bytes(9 * RECEIPT_BYTES))

    again = Outbox(tmp_path, quota_bytes=100 * RECEIPT_BYTES)
    assert list(again.updates) == [large, more]
    assert "found 2 of" in again.no_room("scores")
    box.receipt(large, "accepted", "")
    assert box.no_room("scores") == ""


def test_a_damaged_database_loses_no_update(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named and set aside; updates come from their files, receipts as far as they can be read; also twice."""
    box = Outbox(tmp_path)
    for number in range(60):
        job = f"r{number}-{'x' * 200}"
        box.receipt(put(box, tmp_path, b"%d" % number, job=job), "accepted", "")
    name = put(box, tmp_path, b"unreceipted" * 9000)
    (tmp_path / "outbox" / ("f" * 64 + ".update")).write_bytes(b"never described")
    box.close()
    path = tmp_path / "outbox" / "records-1.sqlite"
    whole = path.read_bytes()
    leaves = [
        at for at in range(4096, len(whole), 4096) if whole[at] == 0x0D
    ]  # pages that hold rows, of SQLite's format
    middle = leaves[len(leaves) // 2]
    path.write_bytes(whole[:middle] + os.urandom(4096) + whole[middle + 4096 :])

    box = Outbox(tmp_path)

    assert [update.job for update in box.updates.values()] == ["r1-train-a"]
    assert b"".join(c.data for c in box.chunks(name, None)) == b"unreceipted" * 9000
    assert 0 < len(box.receipted_jobs()) < 60
    assert "records-1.sqlite is damaged" in caplog.text
    assert path.exists()
    assert [receipt["job"] for receipt in read_receipts(tmp_path)] == box.receipted_jobs()
    box.close()

    (tmp_path / "outbox" / "records-2.sqlite").write_bytes(
        b"no database at all, and longer than a header of SQLite" * 9
    )
    assert list(Outbox(tmp_path).updates) == [name]
    assert sorted(p.name for p in (tmp_path / "outbox").glob("*.sqlite")) == ["records-2.sqlite", "records-3.sqlite"]


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """What does not fit is refused by words, and the payload and all that waits are where they were."""
    box = Outbox(tmp_path)
    name = put(box, tmp_path, b"waits")
    box._records._db.execute("PRAGMA max_page_count = 1")  # SQLite then says what it says on a full disk
    path = tmp_path / "payload"
    path.write_bytes(b"x" * 9000)

    with pytest.raises(StorageError, match="database or disk is full"):
        box.put(path, kind="scores", job="j" * 9000, round_=1, base="0" * 64, samples=1, metrics={})
    with pytest.raises(StorageError, match="database or disk is full"):
        box.receipt(name, "accepted", "r" * 9000)

    assert path.read_bytes() == b"x" * 9000
    assert list(box.updates) == [name]
    assert list(Outbox(tmp_path).updates) == [name]
    assert Outbox(tmp_path).receipted_jobs() == []


def version(number: int, blob: bytes) -> Version:
    """A version with one rung."""
    return Version("tiny", number, "", 1, 2.0, (Rung(0, 1, digest(blob), len(blob)),), ("a",))


def test_blobs_and_versions_are_believed_only_whole(tmp_path: Path) -> None:
    """A blob under another name is refused; one that changed on disk is gone at the next look; a version too."""
    store = Store(tmp_path)
    name, _ = store.save_version(encode(version(1, b"blob")))
    store.save_blob(digest(b"blob"), b"blob")
    with pytest.raises(IntegrityError, match="found others"):
        store.save_blob(digest(b"blob"), b"glob")
    (tmp_path / "blobs" / digest(b"blob")).write_bytes(b"glob")
    (tmp_path / "versions" / f"{name}.body").write_bytes(encode(version(2, b"blob")))

    later = Store(tmp_path)

    assert not later.has_blob(digest(b"blob"))
    assert later.version(name) is None
    assert not store.has_blob(digest(b"blob"))


def test_old_versions_and_their_blobs_go(tmp_path: Path) -> None:
    """What is kept: the newest versions, those that are named, and the blobs of both; nothing else."""
    store, names = Store(tmp_path), []
    for number in range(KEEP_VERSIONS + 4):
        data = b"blob %d" % number
        names.append(store.save_version(encode(version(number, data)), b"envelope")[0])
        store.save_blob(digest(data), data)
        os.utime(tmp_path / "versions" / f"{names[-1]}.body", (number, number))
    store.save_blob(digest(b"stray"), b"stray")

    store.collect({names[0]})

    kept = {names[0], *names[-KEEP_VERSIONS:]}
    assert {n for n in names if store.version(n) is not None} == kept
    assert len(list(store.blobs.iterdir())) == len(kept)
    assert len(list(store.versions.iterdir())) == 2 * len(kept)


def test_release_follows_upwards_only(tmp_path: Path) -> None:
    """A release with the same or a lower sequence is not followed, also after a restart; a rollback is a higher one."""
    store = Store(tmp_path)

    assert store.follow(Release("tiny", 5, 3, "3" * 64))
    assert not store.follow(Release("tiny", 5, 4, "4" * 64))
    assert not Store(tmp_path).follow(Release("tiny", 4, 4, "4" * 64))
    assert Store(tmp_path).follow(Release("tiny", 6, 2, "2" * 64))
