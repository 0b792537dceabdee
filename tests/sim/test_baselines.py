from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.data import Row
from edge.model import Model, load
from hub.making.versions import read_ladder, read_made
from hub.store import registry
from sim.baselines import Effort, first_adapter, learn_alone
from tests.edge.bundles import VOCABULARY, make_bundle, trust_of
from wire import discriminant
from wire.adapter import Adapter
from wire.keys import write_key
from wire.kinds.head import gather

SCALE, EFFORT = 2.0, Effort(rounds=3, steps=30, batch=16, learning_rate=3e-2, seed=0)
WORDS = VOCABULARY[2:]
# Whether two words are both early or both late in the vocabulary: no sum over words tells.
ROWS = [Row(f"{WORDS[i]} {WORDS[j]}", int((i < 3) != (j < 3))) for i in range(6) for j in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A small model of text with two classes."""
    folder = tmp_path_factory.mktemp("bundle")
    key = make_bundle(folder, kind="text", labels=("same", "mixed"), segments=(2,))
    found = load(folder, trust_of(key))
    yield found
    found.close()


def start_of(model: Model, rank: int = 4) -> Adapter:
    """Where a board of this rank starts."""
    return first_adapter(model.runner.manifest, rank, SCALE)


def head_alone(model: Model) -> float:
    """How much of the rows the closed-form head of the untouched model gets right, by matrices."""
    features = model.features([row.sample for row in ROWS])
    labels = np.array([row.label for row in ROWS], np.int64)
    head = discriminant.solve(gather(features, labels, 2))
    found = (features.astype(np.float64) @ head.weight + head.bias).argmax(axis=1)
    return float((found == labels).mean())


@pytest.mark.parametrize("rank", [1, 2, 5, 8, 16])
def test_a_board_alone_starts_where_the_fleet_does(tmp_path: Path, rank: int) -> None:
    """The first adapter is the prefix of the hub's version 0, bit for bit."""
    publisher = make_bundle(tmp_path / "bundle", kind="text")
    _, public = write_key(publisher, tmp_path)
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:0")
    home = registry.open_home(tmp_path / "hub")
    registry.add_bundle(home, tmp_path / "bundle")
    version = read_made(home.ledger.versions()[0]).version
    ladder = read_ladder(version, home.blobs, rank)
    home.ledger.close()
    with_bundle = load(tmp_path / "bundle", trust_of(publisher))

    found = first_adapter(with_bundle.runner.manifest, rank, version.scale)

    with_bundle.close()
    assert found.model == version.model
    assert found.lora.keys() == ladder.keys()
    for name, factors in ladder.items():
        assert factors.rank == rank
        assert found.lora[name].scale == factors.scale
        np.testing.assert_array_equal(found.lora[name].a, factors.a)
        np.testing.assert_array_equal(found.lora[name].b, factors.b)


def test_without_training_it_is_the_closed_form_head(model: Model) -> None:
    """No round of training: the score is that of the head of all rows on the untouched model."""
    untrained = Effort(0, EFFORT.steps, EFFORT.batch, EFFORT.learning_rate, 0)
    score = learn_alone(model.runner, start_of(model), ROWS, ROWS, untrained)
    assert score.accuracy == head_alone(model)
    assert (score.rank, sum(score.count)) == (4, len(ROWS))


def test_training_learns_what_the_head_cannot(model: Model) -> None:
    """Adapters bend the features so that a linear head tells apart what it could not; the same again each time."""
    found = [learn_alone(model.runner, start_of(model), ROWS, ROWS, EFFORT) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].accuracy >= head_alone(model) + 0.1


def test_what_it_learns_is_scored_on_the_test_rows(model: Model) -> None:
    """Test rows are counted by class and are no rows to learn from: with other labels the score falls."""
    wrong = [Row(row.sample, 1 - row.label) for row in ROWS]
    right = learn_alone(model.runner, start_of(model), ROWS, ROWS, EFFORT)
    score = learn_alone(model.runner, start_of(model), ROWS, wrong, EFFORT)
    assert score.accuracy == pytest.approx(1 - right.accuracy)
    assert score.count == right.count[::-1]


@pytest.mark.parametrize("last", ["rows", "a step"])
def test_it_can_be_stopped(model: Model, last: str) -> None:
    """What is told of every piece of work may raise, while a head is made as well as while steps are."""
    told: list[str] = []

    class Enough(Exception):
        pass

    def advance(words: str) -> None:
        told.append(words)
        if words == last:
            raise Enough

    with pytest.raises(Enough):
        learn_alone(model.runner, start_of(model), ROWS, ROWS, EFFORT, advance)
    assert set(told[:-1]) <= {"rows"}
    assert told[-1] == last
