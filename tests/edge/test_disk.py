"""What an agent keeps on disk, and what a kill leaves of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, IntegrityError
from edge.outbox import Outbox, append_line, read_lines
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
    """Once put, an update is whole on disk until its receipt is logged; nothing half-written is ever left."""
    left = every_kill("outbox", tmp_path)

    assert len(left) > 8
    assert left[-1]["said"] == ["put", "receipted"]
    for found in left:
        assert found["whole"]
        assert found["lines"] <= 1
        assert found["files"] == 2 * len(found["updates"])
        if "put" in found["said"]:
            assert found["updates"] or found["receipted"] == ["r1-gate-a"]
        if "receipted" in found["said"]:
            assert (found["updates"], found["receipted"]) == ([], ["r1-gate-a"])
    assert any(f["updates"] and f["receipted"] for f in left), "a kill between receipt and removal was tried"


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
    (tmp_path / "outbox" / f"{name}.payload").write_bytes(b"other bytes")

    assert Outbox(tmp_path).updates == {}
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a power cut in the middle of a receipt the next receipt is still read."""
    path = tmp_path / "receipts.jsonl"
    append_line(path, {"job": "one"})
    with path.open("ab") as file:
        file.write(b'{"job": "tw')
    append_line(path, {"job": "three"})

    assert [line["job"] for line in read_lines(path)] == ["one", "three"]


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
