"""Files of a bundle that are here already may take long to look at, while nothing of them is fetched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from edge import fetching
from edge.fetching import Fetcher
from edge.install import PART, Goal, Stopped, fetch, install
from edge.renewing import SILENT_S
from tests.edge.bundles import make_bundle
from wire.bundle import MANIFEST
from wire.envelope import Trust
from wire.files import BLOCK_BYTES, digest
from wire.manifest import File, parse_manifest
from wire.messages import Assignment


class Listed:
    """A hub that has the small files of a bundle only."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle

    def bytes(self, path: str, limit_bytes: int) -> bytes:
        """Its manifest, or the signature of that."""
        return (self._bundle / path.rpartition("/")[2]).read_bytes()

    def range(self, path: str, file: BinaryIO, offset: int, size: int) -> int:
        """Nobody may ask."""
        raise AssertionError(path)


def goal_of(folder: Path, looked: Callable[[int], None]) -> Goal:
    """A bundle that is on the board already is to be installed in another folder."""
    key = make_bundle(folder / "here")
    body = (folder / "here" / MANIFEST).read_bytes()
    order = Assignment("barn-1", 1, parse_manifest(body).model.id, digest(body))
    return Goal(order, folder / "new", Trust([key.public]), [folder / "here"], looked=looked)


def test_all_bytes_that_are_here_are_told(tmp_path: Path) -> None:
    """A bundle of which nothing lacks is there without a byte that is fetched, and each byte of it was looked at."""
    told: list[int] = []
    goal = goal_of(tmp_path, told.append)

    manifest = install(goal, Listed(tmp_path / "here"))

    assert sum(told) == sum(file.bytes for file in manifest.files)
    assert all((tmp_path / "new" / file.path).exists() for file in manifest.files)


def test_what_is_no_longer_wanted_is_not_looked_at_to_its_end(tmp_path: Path) -> None:
    """Who says at the first block that it is enough is not asked again, and no file has come."""
    asked = []

    def enough(size: int) -> None:
        asked.append(size)
        raise Stopped

    with pytest.raises(Stopped):
        install(goal_of(tmp_path, enough), Listed(tmp_path / "here"))

    assert len(asked) == 1
    assert not [path for path in (tmp_path / "new").rglob("*") if path.suffix == ".onnx"]


def test_a_file_that_came_before_is_told_as_it_is_looked_at(tmp_path: Path) -> None:
    """All of it came before a restart: its blocks are told as looked at, and none of them as one that came now."""
    data = bytes(2 * BLOCK_BYTES + 7)
    (tmp_path / f"weights{PART}").write_bytes(data)
    came, looked = list[int](), list[int]()

    fetch(tmp_path, File("weights", len(data), digest(data)), Listed(tmp_path), came.append, looked.append)

    assert (came, looked) == ([], [BLOCK_BYTES, BLOCK_BYTES, 7])
    assert (tmp_path / "weights").read_bytes() == data


def test_looking_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has said nothing for too long is alive again with the next block that it looked at."""
    goes_on, looked, ends = threading.Event(), threading.Event(), threading.Event()

    def slowly(goal: Goal, source: object) -> None:
        goes_on.wait(60)
        goal.looked(BLOCK_BYTES)
        looked.set()
        ends.wait(60)

    monkeypatch.setattr(fetching, "install", slowly)
    fetcher = Fetcher(goal_of(tmp_path, lambda size: None), Listed(tmp_path), lambda what, fields: None)
    fetcher._lived_at = time.monotonic() - 2 * SILENT_S
    before = fetcher.silent_s()
    goes_on.set()
    assert looked.wait(60)
    after = fetcher.silent_s()
    ends.set()
    fetcher.close()

    assert before > SILENT_S > after
