"""What the learning bench stands on: its encoder is the published one, and many models at once learn as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.learning import prepare, recipes, splits
from bench.learning.local import Factors, Learner, Work
from bench.learning.pack import WORDS, Pack
from bench.learning.trunk import LOWER, SCALE, SIDE, SLOTS, Kept, Trunk
from bench.slots import minilm
from hub.aggregation.methods import METHODS

needs_encoder = pytest.mark.skipif(minilm() is None, reason="needs the package of all-MiniLM-L6-v2")
SENTENCES = ["how much is my rent", "play the next song, please", "yes", "what time is it in the capital of Peru now"]


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A few sentences and the encoder."""
    ids, lengths = prepare._tokens(SENTENCES, 16)
    weights = prepare._weights()
    arrays: dict[str, Any] = {"few/ids": ids, "few/lengths": lengths}
    return Pack({**arrays, **{f"weights/{name}": own for name, own in weights.items()}})


def drawn(rank: int, seed: int) -> Factors:
    """Factors that do something."""
    g = np.random.default_rng(seed)
    a = g.standard_normal((len(SLOTS), SIDE, rank)) / SIDE**0.5
    b = g.standard_normal((len(SLOTS), rank, SIDE)) / SIDE**0.5
    return Factors(a.astype(np.float32), b.astype(np.float32))


@pytest.mark.parametrize("kind", splits.SPLITS)
def test_a_split_has_every_row_once(kind: str) -> None:
    """Every row is on one board, and a seed gives one split."""
    labels = np.arange(500) % 10

    found = splits.split(kind, labels, 5, 3)

    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert all(np.array_equal(a, b) for a, b in zip(found, splits.split(kind, labels, 5, 3), strict=True))
    if kind == "disjoint":
        held = [set(labels[rows].tolist()) for rows in found]
        assert sum(map(len, held)) == len(set().union(*held))


def test_every_method_has_a_frozen_recipe() -> None:
    """The file has a recipe for each method that there is, alone and centralised, of as many rows."""
    found = recipes.read()

    assert set(found) == {"sst2", "clinc10", "clinc150"}
    for own in found.values():
        assert set(own) >= {*METHODS, "alone", "centralised"}
        assert {recipe.rounds * recipe.steps * recipe.batch for recipe in own.values()} == {1024}


@pytest.mark.heavy
@needs_encoder
def test_features_are_those_of_the_published_encoder(pack: Pack) -> None:
    """Features are the means over tokens of the encoder with the products merged, of one length."""
    from transformers import BertConfig, BertModel

    folder = minilm()
    assert folder is not None
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False).eval()
    factors = drawn(3, 0)
    state = {n.removeprefix("weights/"): torch.from_numpy(w).float() for n, w in pack.arrays.items() if "weights" in n}
    for i, slot in enumerate(SLOTS):
        _, block, name = slot.split(".")
        product = SCALE * factors.a[i].astype(np.float64) @ factors.b[i]
        state[f"encoder.layer.{block}.attention.self.{name}.weight"] += torch.from_numpy(product.T).float()
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    trunk = Trunk(pack, "cpu")
    kept = Kept(pack, "few", trunk)
    kept.ensure(np.arange(len(SENTENCES)))

    hidden, lengths = kept.rows(np.arange(len(SENTENCES))[None])
    found = trunk.upper(hidden, lengths, torch.from_numpy(factors.a)[None], torch.from_numpy(factors.b)[None])[0]

    for i, length in enumerate(pack.arrays["few/lengths"]):
        ids = torch.from_numpy(pack.arrays["few/ids"][i : i + 1, :length])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0)
        wanted = mean / mean.norm() * SIDE**0.5
        assert torch.allclose(found[i], wanted, atol=2e-2)  # hidden states are kept in float16
    assert LOWER == 3
    assert WORDS in state


@pytest.mark.heavy
@needs_encoder
def test_many_models_learn_as_one_by_one(pack: Pack) -> None:
    """Models of unequal rank in one batch end where each ends by itself, and what rests does not move."""
    trunk = Trunk(pack, "cpu")
    kept = Kept(pack, "few", trunk)
    kept.ensure(np.arange(len(SENTENCES)))
    learner = Learner(trunk, kept, np.array([0, 1, 1, 0]), 1 << 16)
    g = np.random.default_rng(0)
    head = (g.standard_normal((SIDE, 2)) / 10).astype(np.float32)

    def work(rank: int, trains: Any) -> Work:
        rows = np.array([[0, 1], [2, 3]])
        return Work(drawn(rank, rank), rows, head, np.zeros(2, np.float32), 1e-3, trains)

    asked = [(2, "both"), (4, "b"), (1, "a")]
    together = learner.train([work(*one) for one in asked])

    for one, own in zip(asked, together, strict=True):
        alone = learner.train([work(*one)])[0]
        assert np.allclose(alone.a, own.a, atol=1e-5)
        assert np.allclose(alone.b, own.b, atol=1e-5)
        start = drawn(one[0], one[0])
        assert np.array_equal(own.a, start.a) == (one[1] == "b")
        assert np.array_equal(own.b, start.b) == (one[1] == "a")
