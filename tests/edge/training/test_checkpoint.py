"""A session on disk: whole, its own, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from console.errors import BadData
from edge.training import checkpoint
from edge.training.history import Course, Look, Loss, Session, Undone
from edge.training.task import Score
from tests.edge.trainers.problems import same_bytes
from wire.adapter import Adapter, to_bytes
from wire.kinds.lora import Lora

ARRAYS: dict[str, NDArray[np.float32]] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scale": np.full((), 2.0, np.float32),
}
STATE: dict[str, NDArray[Any]] = {"t": np.asarray(3, np.uint64), "m/a": np.ones((3, 2), np.uint8)}
NONE = Adapter("none")
WHOLE = Session(
    ARRAYS,
    STATE,
    at=7,
    before=({"a": ARRAYS["a"] + 1}, STATE),
    best={"a": ARRAYS["a"] + 2},
    stale=2,
    rate=0.25,
    fresh_undone=1,
    seconds=1.5,
    losses=(Loss(1, 0.5), Loss(2, 0.25)),
    looks=(Look(0, Score(float("inf"), 1, 4)),),
    undone=(Undone(3, 0.5, "expected a finite loss, found nan"),),
    course=Course("spry", "rank 2", None, 4, 8, Adapter("m", "", {"s": Lora(ARRAYS["a"], ARRAYS["a"].T, 2.0)})),
)


@pytest.mark.parametrize("session", [WHOLE, Session(ARRAYS, STATE)], ids=["everything", "the least"])
def test_a_session_comes_back_as_it_was(tmp_path: Path, session: Session) -> None:
    """Arrays have the same bytes, types and shapes, and every number is the same."""
    checkpoint.write(tmp_path / "it", session, "f")
    found = checkpoint.read(tmp_path / "it", "f")

    assert found is not None
    for mine, theirs in (
        (found.arrays, session.arrays),
        (found.state, session.state),
        (found.best or {}, session.best or {}),
        ((found.before or ({}, {}))[0], (session.before or ({}, {}))[0]),
        ((found.before or ({}, {}))[1], (session.before or ({}, {}))[1]),
    ):
        same_bytes(mine, theirs)
        assert {n: (a.shape, a.dtype) for n, a in mine.items()} == {n: (a.shape, a.dtype) for n, a in theirs.items()}
    for name in ("at", "stale", "rate", "fresh_undone", "over", "seconds", "losses", "looks", "undone"):
        assert getattr(found, name) == getattr(session, name), name
    told = [s.course and (to_bytes(s.course.adapter), vars(replace(s.course, adapter=NONE))) for s in (found, session)]
    assert told[0] == told[1]
    assert (found.before is None, found.best is None) == (session.before is None, session.best is None)


def test_no_file_is_no_session(tmp_path: Path) -> None:
    """Where nothing was kept there is nothing to go on from."""
    assert checkpoint.read(tmp_path / "none", "f") is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    """Other data, settings or another bundle would give neither run's result."""
    checkpoint.write(tmp_path / "it", WHOLE, "f")
    with pytest.raises(
        BadData, match=r"the same bundle, data and settings, found another run's; --restart begins anew"
    ):
        checkpoint.read(tmp_path / "it", "g")


@pytest.mark.parametrize("cut", [0, 5, 8, 40, 600, -1, -40])
def test_a_torn_file_is_refused_by_words(tmp_path: Path, cut: int) -> None:
    """A file that ends anywhere too early, or holds something else, is no session."""
    checkpoint.write(tmp_path / "it", WHOLE, "f")
    data = (tmp_path / "it").read_bytes()
    (tmp_path / "it").write_bytes(data[:cut])
    with pytest.raises(BadData, match=r"expected a checkpoint in .*, found something else"):
        checkpoint.read(tmp_path / "it", "f")


def test_only_its_owner_reads_a_checkpoint(tmp_path: Path) -> None:
    """What was learned from a board's own data is not for everybody on it."""
    checkpoint.write(tmp_path / "it", WHOLE, "f")
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o600
