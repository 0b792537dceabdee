"""The trainer of heads in closed form: its state is sums, which survive a restart and can lose rows again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from console.errors import BadData
from edge.trainers.interface import Rows
from edge.trainers.ridge import Ridge
from tests.wire.test_ridge import drawn, same
from wire.ridge import error, spectrum
from wire.sums import (
    gather,
    unpacked,
)


def test_a_restart_in_the_middle_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """State that went through a file goes on as if nothing had happened; removing what came last undoes it."""
    x, y = drawn(120, 6, 3)
    trainer = Ridge(6, 3)
    targets = np.eye(3)[np.argmax(y, axis=1)]
    parts = [Rows(features=lambda part=part: (x[part], targets[part])) for part in np.split(np.arange(120), 4)]  # type: ignore[misc]  # mypy gives a default's type to no lambda
    state = trainer.begin({})
    states = []
    for rows in parts:
        stepped = trainer.step({}, state, rows)
        state = stepped.state
        states.append(state)
    save_file(states[1], tmp_path / "state")
    state = load_file(tmp_path / "state")
    for rows in parts[2:]:
        state = trainer.step({}, state, rows).state
    assert same(unpacked(state), unpacked(states[-1]))
    assert same(unpacked(trainer.remove({}, state, parts[3]).state), unpacked(states[2]))
    update = trainer.update({}, state)
    assert {n: a.shape for n, a in update.sums.items()} == {"upper": (28,), "right": (7, 3), "squares": (3,)}
    assert unpacked(update.sums).rows == 120


def test_removing_more_than_there_is_is_one_sentence() -> None:
    """So are no rows at all, features that are not finite, and a bundle without a feature graph."""
    x, y = drawn(10, 3, 2)
    with pytest.raises(BadData, match="expected at most 5 rows to remove, found 10"):
        gather(x[:5], y[:5]) - gather(x, y)
    nothing = gather(x[:0], y[:0])
    with pytest.raises(BadData, match="expected rows to solve a head from"):
        spectrum(nothing)
    with pytest.raises(BadData, match="expected rows to judge"):
        error(nothing, np.zeros((3, 2)), np.zeros(2))
    trainer = Ridge(3, 2)
    with pytest.raises(BadData, match="expected a graph that gives features"):
        trainer.step({}, trainer.begin({}), Rows())
    x[0, 0] = np.nan
    with pytest.raises(BadData, match="expected finite features"):
        trainer.step({}, trainer.begin({}), Rows(features=lambda: (x, y)))
