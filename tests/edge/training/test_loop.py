"""The steps of a session: rows in order, looks, early stops, and steps that are undone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from edge.trainers.adam8 import Adam8
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Trainer
from edge.trainers.spry import Spry
from edge.training import checkpoint
from edge.training.history import Session
from edge.training.loop import MOST_UNDONE, Schedule, Settings, begin, result, run
from edge.training.order import after, batches
from tests.edge.trainers.problems import same_bytes
from tests.edge.training.tasks import Quadratic
from wire.adamw import Hyperparameters
from wire.optimizers import Adam32, Sgd

TRAINERS: dict[str, Trainer] = {
    "adamw": Backprop(("x",), Adam32(Hyperparameters(0.05))),
    "adam8": Backprop(("x",), Adam8(Hyperparameters(0.05))),
    "sgd with momentum": Backprop(("x",), Sgd(0.05, 0.9)),
    "spry": Spry(7, {"unit": ["x"]}, optimizer=Adam32(Hyperparameters(0.05))),
}


def trained(task: Quadratic, trainer: Trainer | None = None, **settings: Any) -> Session:
    """A whole session."""
    trainer = trainer or Backprop(("x",), Sgd(0.2))
    return run(task, trainer, Settings(**{"batch": 4, "steps": 30, "look_every": 3, **settings}), begin(task, trainer))


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_every_trainer_learns_in_a_session(trainer: Trainer) -> None:
    """The loss at the end is a small part of that at the beginning."""
    found = trained(Quadratic(), trainer, steps=120)

    assert found.at == 120
    assert found.over == "all steps are done"
    assert found.losses[-1].loss < 0.2 * found.losses[0].loss


def test_a_pass_takes_every_row_once() -> None:
    """Whatever the batch, three passes take every row three times, and another seed takes another order."""
    taken = list(islice(batches(10, 4, 1), 15))

    assert set(Counter(chain.from_iterable(taken)).values()) == {6}
    assert taken != list(islice(batches(10, 4, 2), 15))
    assert list(islice(after(10, 4, 1, 7), 8)) == taken[7:]


def test_the_best_look_is_what_is_left() -> None:
    """With rows kept back the arrays of the least loss on them are the result, not the last ones."""
    task = Quadratic(scores=[5.0, 3.0, 1.0, 2.0, 2.5, 3.0, 4.0])

    found = trained(task, patience=0, steps=18)

    assert [look.score.loss for look in found.looks] == [5.0, 3.0, 1.0, 2.0, 2.5, 3.0, 4.0]
    np.testing.assert_array_equal(result(found)["x"], task.seen[2])
    assert not np.array_equal(result(found)["x"], found.arrays["x"])


def test_it_stops_when_looks_get_no_better() -> None:
    """After so many looks without a lower loss there are no more steps, and it says why."""
    found = trained(Quadratic(scores=[5.0, 1.0, 2.0, 1.0, 1.5, 0.1]), patience=3)

    assert found.at == 12
    assert found.over == "no better on the rows kept back for 3 looks"


def test_it_stops_when_the_loss_is_low_enough() -> None:
    """A loss below the one that was asked for ends it."""
    found = trained(Quadratic(), stop_loss=1.0)

    assert found.losses[-1].loss < 1.0 <= found.losses[-2].loss
    assert found.over == "the loss is below 1"


def test_the_rate_rises_and_falls_in_a_line() -> None:
    """Steps of descent are those of rates that rise over the warm-up and then fall towards 0, computed beside it."""
    task, rates = Quadratic(), [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]
    found = trained(task, Backprop(("x",), Sgd(0.1)), steps=6, schedule="linear", warmup=2)

    arrays = task.start()
    for rate, chosen in zip(rates, batches(len(task), 4, 0), strict=False):
        arrays = Backprop(("x",), Sgd(rate)).step(arrays, {}, task.rows(chosen)).arrays
    np.testing.assert_allclose(found.arrays["x"], arrays["x"], rtol=1e-6)
    constant = trained(task, Backprop(("x",), Sgd(0.1)), steps=6)
    assert not np.allclose(found.arrays["x"], constant.arrays["x"], rtol=1e-3)


def test_without_rows_kept_back_the_last_arrays_are_the_result() -> None:
    """Nobody looks, and nothing stops early."""
    found = trained(Quadratic(), patience=1)

    assert (found.at, found.looks) == (30, ())
    np.testing.assert_array_equal(result(found)["x"], found.arrays["x"])


def test_a_step_that_is_not_finite_is_undone() -> None:
    """The arrays go back to before the last step, the rate is halved, the rows are passed over, and it is said."""
    task, clean = Quadratic(broken=[5]), Quadratic()
    bad = next(i for i, rows in enumerate(islice(batches(12, 4, 0), 30)) if 5 in rows)
    kept: list[Session] = []

    trainer = Backprop(("x",), Sgd(0.2))
    run(task, trainer, Settings(30, 4), begin(task, trainer), kept.append)
    straight: list[Session] = []
    run(clean, trainer, Settings(30, 4), begin(clean, trainer), straight.append)

    assert kept[bad].undone[0].step == bad + 1
    assert "expected a finite loss, found nan" in kept[bad].undone[0].reason
    assert kept[bad].rate == 0.5
    expected = straight[bad - 2].arrays["x"] if bad > 1 else np.zeros(6)
    np.testing.assert_array_equal(kept[bad].arrays["x"], expected)
    assert all(math.isfinite(one.loss) for one in kept[-1].losses)
    assert len(kept[-1].undone) == 10
    assert kept[-1].rate == 0.5**10


def test_a_session_that_is_never_finite_ends_with_a_sentence() -> None:
    """Nothing is called trained where no step had a finite loss."""
    with pytest.raises(BadData, match=rf"expected a finite loss, found none in {MOST_UNDONE} steps; check the data"):
        trained(Quadratic(broken=range(12)))


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("broken", [(), (3,)], ids=["finite", "with undone steps"])
def test_any_checkpoint_goes_on_to_the_same_bytes(
    tmp_path: Path, trainer: Trainer, broken: tuple[int, ...], schedule: Schedule
) -> None:
    """From the file of any step the end is that of the session that was not interrupted, bit for bit."""
    scores = [3.0, 2.0, 2.5, 1.0, 1.5, 1.2, 1.1, 1.05]
    settings = Settings(steps=14, batch=5, look_every=2, patience=0, schedule=schedule, warmup=3)

    def keep(session: Session) -> None:
        checkpoint.write(tmp_path / str(session.at), session, "it")

    whole = Quadratic(broken=broken, scores=scores)
    end = run(whole, trainer, settings, begin(whole, trainer), keep)

    for at in range(1, 14):
        found = checkpoint.read(tmp_path / str(at), "it")
        assert found is not None
        task = Quadratic(broken=broken, scores=scores, seen=[np.zeros(0)] * len(found.looks))
        again = run(task, trainer, settings, found)
        same_bytes(again.arrays, end.arrays)
        same_bytes(again.state, end.state)
        same_bytes(result(again), result(end))
        told = [replace(s, arrays={}, state={}, before=None, best=None, seconds=0.0) for s in (again, end)]
        assert (told[0].losses, told[0].looks, told[0].undone) == (told[1].losses, told[1].looks, told[1].undone)
