"""Kill a process before every single step that it takes on a folder, and say what is left each time.

`python -m tests.edge.killed STORY FOLDER`, with a story of `STORIES`: forks a child per step; an audit hook ends it
(os._exit, no clean-up) at its n-th file operation below the folder; a write at a place counts twice, and dies the
second time when half of its bytes are there; within SQLite every few steps of its machine count. The parent then
opens what is left and prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.data import Row
from edge.data.replay import Replay
from edge.outbox import Outbox
from edge.residuals import COUNTS, Residuals, beside
from edge.slab import Slab
from edge.store import Store
from wire.files import digest
from wire.messages import Release, Version, encode

SQLITE_STEPS = 17
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir")
PAYLOAD = b"payload " * 20_000
OLD, NEW = Release("tiny", 1, 1, "1" * 64), Release("tiny", 2, 2, "2" * 64)
ROWS, ROOM = [(bytes([k]) * 32, bytes([k]) * 100) for k in (1, 2, 3)], 4096 + 256 * 48 + 2 * 100
VERSION = encode(Version("tiny", 2, "", 0, 2.0, (), ("a",)))


def outbox_story(folder: Path, said: Callable[[str], None]) -> None:
    """Put an update, get its receipt."""
    box = Outbox(folder)
    payload = folder / "payload"
    payload.write_bytes(PAYLOAD)
    update = box.put(payload, kind="scores", job="r1-gate-a", round_=1, base="0" * 64, samples=1, metrics={})
    said("put")
    box.receipt(update.update, "accepted", "")
    said("receipted")


def old_outbox_story(folder: Path, said: Callable[[str], None]) -> None:
    """Take over what an agent from before SQLite left (`old_outbox`), then get a receipt."""
    box = Outbox(folder)
    said("put")
    for update in list(box.updates):
        box.receipt(update, "accepted", "")
    said("receipted")


def old_outbox(folder: Path) -> None:
    """An outbox of before SQLite: a waiting update, and a receipt of another."""
    (folder / "outbox").mkdir()
    name = digest(PAYLOAD)
    (folder / "outbox" / f"{name}.payload").write_bytes(PAYLOAD)
    record = {"update": name, "kind": "scores", "job": "r1-gate-a", "round": 1, "base": "0" * 64}
    record |= {"bytes": len(PAYLOAD), "samples": 1, "metrics": {}}
    (folder / "outbox" / f"{name}.json").write_text(json.dumps(record))
    line = {"update": "1" * 64, "job": "r0-gate-a", "kind": "scores", "round": 0, "status": "accepted", "reason": ""}
    (folder / "receipts.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line)[:30])


def outbox_left(folder: Path) -> dict[str, Any]:
    """What another start finds."""
    box = Outbox(folder)
    whole = [b"".join(c.data for c in box.chunks(name, None)) == PAYLOAD for name in box.updates]
    return {
        "updates": list(box.updates),
        "whole": all(whole),
        "receipted": box.receipted_jobs(),
        "files": sorted(path.suffix for path in box.folder.iterdir() if "sqlite" not in path.suffix),
        "old": (folder / "receipts.jsonl").exists(),
    }


def store_story(folder: Path, said: Callable[[str], None]) -> None:
    """Follow and serve a newer release, with its version and a blob."""
    store = Store(folder)
    store.follow(NEW)
    said("followed")
    store.save_version(VERSION)
    store.save_blob(digest(PAYLOAD), PAYLOAD)
    said("stored")
    store.serve(NEW)
    said("served")


def store_left(folder: Path) -> dict[str, Any]:
    """What another start finds."""
    store = Store(folder)
    released = store.released
    return {
        "seen": released.seen.sequence if released.seen else None,
        "served": released.served.sequence if released.served else None,
        "version": store.version(digest(VERSION)) is not None,
        "blob": store.has_blob(digest(PAYLOAD)),
        "back": store.follow(OLD),
    }


def slab_story(folder: Path, said: Callable[[str], None]) -> None:
    """Three rows go into a cache of two: the one that nobody asks for makes room."""
    slab = Slab(folder / "slab", ROOM)
    slab.begin("rows", 100)
    for key, row in ROWS[:2]:
        slab.put(key, row)
        said(f"put{key[0]}")
    slab.close()
    slab = Slab(folder / "slab", ROOM)
    slab.begin("rows", 100)
    slab.get(ROWS[0][0])
    slab.put(*ROWS[2])  # turned away once
    slab.put(*ROWS[2])
    said("put3")


def slab_left(folder: Path) -> dict[str, Any]:
    """What another start finds, and whether it can go on."""
    slab = Slab(folder / "slab", ROOM)
    slab.begin("rows", 100)
    found = {key[0]: slab.get(key) == row for key, row in ROWS if slab.get(key) is not None}
    more = [slab.put(bytes([9 + k]) * 32, bytes(100)) for k in range(slab.capacity - slab.rows)]
    return {"found": found, "more": all(more), "bytes": slab.file_bytes}


def replay_story(folder: Path, said: Callable[[str], None]) -> None:
    """Rows of arrays are offered twice; the second time others push some of them out."""
    for turn, word in ((0, "first"), (1, "second")):
        replay = Replay.load(folder / "replay", "ab", "tensors", 2)
        replay.offer(*replay_rows(turn))
        said(word)


def replay_rows(turn: int) -> tuple[list[Row], NDArray[np.float32]]:
    """Two rows, one per class, and features that grow with every turn."""
    features = np.eye(2, dtype=np.float32) * (turn + 1)
    return [Row({"x": np.full(3, 10 * turn + i)}, i) for i in range(2)], features


def replay_left(folder: Path) -> dict[str, Any]:
    """What another start finds, and whether it can go on."""
    replay = Replay.load(folder / "replay", "ab", "tensors", 2)
    found = sorted(int(np.load(row.sample)["x"][0]) for row in replay.rows())
    lost = replay.lost
    replay.offer(*replay_rows(2))
    files = [path.name for path in (folder / "replay").rglob("*") if path.is_file()]
    return {"found": found, "lost": lost, "files": len(files), "after": len(replay)}


def residuals_story(folder: Path, said: Callable[[str], None]) -> None:
    """A thin update that makes good what an earlier one lost: put, receipted."""
    box = Outbox(folder)
    lost = Residuals(folder, box.updates)
    payload = folder / "payload"
    beside(payload).write_bytes(b"new")
    payload.write_bytes(PAYLOAD)
    lost.expect(digest(PAYLOAD), payload)
    box.put(payload, kind="adapter", job="r1-train-a", round_=1, base="0" * 64, samples=1, metrics={})
    said("put")
    lost.settle(digest(PAYLOAD), counts=True)
    box.receipt(digest(PAYLOAD), "accepted", "")
    said("receipted")


def residuals_left(folder: Path) -> dict[str, Any]:
    """What another start finds, and what it would make good next."""
    box = Outbox(folder)
    path = Residuals(folder, box.updates).next()
    return {"waits": bool(box.updates), "next": Path(path).read_text() if path else "", "done": box.receipted_jobs()}


STORIES = {
    "residuals": (residuals_story, residuals_left),
    "replay": (replay_story, replay_left),
    "outbox": (outbox_story, outbox_left),
    "old-outbox": (old_outbox_story, outbox_left),
    "store": (store_story, store_left),
    "slab": (slab_story, slab_left),
}


def child(folder: Path, story: Callable[[Path, Callable[[str], None]], None], steps: int, pipe: int) -> None:
    """Tell the story until the n-th step."""
    left, write = [steps], os.pwrite

    def step(end: Callable[[], object] = lambda: None) -> None:
        left[0] -= 1
        if left[0] < 0:
            end()
            os._exit(9)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and str(folder) in str(arguments[0]):
            step()

    def halved(handle: int, data: Any, at: int, /) -> int:
        step()
        step(lambda: write(handle, data[: len(data) // 2], at))
        return write(handle, data, at)

    def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*arguments, **options)
        db.set_progress_handler(step, SQLITE_STEPS)
        return db

    sys.addaudithook(watch)
    os.pwrite = halved
    connect, sqlite3.connect = sqlite3.connect, counted  # type: ignore[assignment]  # the same with a watch

    def say(words: str) -> None:
        os.write(pipe, words.encode() + b" ")

    story(folder, say)
    os._exit(0)


def main(name: str, root: Path) -> None:
    """Kill at step 0, 1, 2, ... until the story ends by itself."""
    story, look = STORIES[name]
    for steps in range(400):
        folder = root / f"{steps}"
        folder.mkdir()
        if name == "old-outbox":
            old_outbox(folder)
        if name == "residuals":
            (folder / "lost").mkdir()
            (folder / "lost" / COUNTS).write_bytes(b"old")
        if name == "store":
            store = Store(folder)
            store.follow(OLD)
            store.serve(OLD)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(folder, story, steps, writer)
        os.close(writer)
        said = os.fdopen(reader).read().split()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"said": said, "code": code, **look(folder)}), flush=True)
        shutil.rmtree(folder)
        if code == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
