"""The bench of split fleets: what crosses, who gets which ranks, what a board learns, and how it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.splitting import recipes, table
from bench.splitting.boards import VALUE_BYTES, boards_of, room
from bench.splitting.crossing import coded, row_bytes
from bench.splitting.local import train
from bench.splitting.models import IGNORED, SCALE, Slotted, slotted
from bench.splitting.rounds import Parts, Run, learn
from devices.ranks import LARGEST_RANK
from devices.split.gain import gain
from tests.export.decoders import tiny_gpt2
from wire.activations import CODINGS, Coding, pack_tensors, unpack_tensors
from wire.importance.told import sensitivity
from wire.kinds.lora import Lora
from wire.manifest import Tensor

TARGETS = "c_attn|c_proj|c_fc"
BUDGETS = (1.3, 1.6, 2.5)


@pytest.fixture
def model(tmp_path: Path) -> Slotted:
    """A tiny GPT-2 over drawn rows."""
    from transformers import GPT2LMHeadModel

    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(1, 90, (24, 10)), rng.integers(4, 11, 24)
    labels = np.where(np.arange(1, 11) < lengths[:, None], np.roll(ids, -1, axis=1), IGNORED)
    loaded: Any = GPT2LMHeadModel.from_pretrained(tiny_gpt2(tmp_path / "gpt2"))
    return slotted(loaded, (ids, lengths, labels), TARGETS, decodes=True)


def factors(model: Slotted, rank: int = 2) -> dict[str, Lora]:
    """Drawn ones of every slot."""
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> NDArray[np.float32]:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)

    return {name: Lora(draw(i, rank), draw(rank, o), SCALE) for name, (i, o) in model.slots.items()}


@pytest.mark.parametrize("coding", CODINGS)
def test_what_crosses_is_what_crosses_on_the_wire(coding: Coding) -> None:
    """Values are those of the codec of messages, and bytes are its bytes but for the header."""
    x = np.random.default_rng(0).standard_normal((3, 5, 16)).astype(np.float32) * 10
    x[0, 0] = 0
    data = pack_tensors({"x": x}, {"x": coding})
    wanted = unpack_tensors(data, [Tensor("x", "float32", x.shape)])["x"]
    np.testing.assert_allclose(coded(torch.from_numpy(x), coding).numpy(), wanted, rtol=1e-6)
    assert len(data) - len(pack_tensors({"x": x[:0]}, {"x": coding})) == 15 * row_bytes(16, coding)


def test_a_step_is_that_of_merged_weights(model: Slotted) -> None:
    """The loss with factors beside weights is that with their product in them; a border of float32 is nothing."""
    rows, lora = np.arange(6), factors(model)
    fed = {name: (torch.from_numpy(w.a), torch.from_numpy(w.b)) for name, w in lora.items()}
    found = model.losses(rows, fed)[0]
    model.border = 1
    assert model.losses(rows, fed)[0] == found
    with torch.no_grad():
        for name, w in lora.items():  # a GPT-2 keeps weights as [in, out]
            model.model.get_submodule(name).weight += torch.from_numpy(w.scale * w.a @ w.b)
    assert model.losses(rows, {})[0] == pytest.approx(float(found), rel=1e-5)


def test_what_a_board_tells_is_what_an_agent_tells(model: Slotted) -> None:
    """The numbers of one step are those of `wire.importance.told` for autograd's gradients."""
    lora, rows = factors(model), np.arange(4)[None]
    told = train(model, lora, None, rows, 1e-3).told
    fed = {n: (torch.tensor(w.a, requires_grad=True), torch.tensor(w.b, requires_grad=True)) for n, w in lora.items()}
    loss, counted = model.losses(rows[0], fed)
    (loss / counted[1]).backward()
    for name, (a, b) in fed.items():
        assert a.grad is not None and b.grad is not None  # noqa: PT018  # for the type
        wanted = sensitivity(a.detach().numpy(), a.grad.numpy(), b.detach().numpy(), b.grad.numpy())
        assert told[name] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("method", recipes.METHODS[:5])
def test_fronts_fit_their_budgets(model: Slotted, method: str) -> None:
    """Every front's adapters fit beside its blocks; behind it all slots have a rank."""
    importance = {name: float(1 + i) for i, name in enumerate(model.slots)}
    for budget, board in zip(BUDGETS, boards_of(method, model, BUDGETS, importance), strict=True):
        assert 0 < board.values(model.slots) <= room(model, budget, board.border)
        assert set(model.slots) - board.front <= set(board.ranks)
        assert VALUE_BYTES * room(model, budget, board.border) <= budget * 4 * model.block_values()


def test_importance_is_what_ranks_follow(model: Slotted) -> None:
    """The planned ranks cover more of the importance than those of one rank or of none in mind."""
    importance = {name: 100.0 if "mlp.c_proj" in name else 1.0 for name in model.slots}

    def covered(method: str) -> list[int]:
        boards = boards_of(method, model, BUDGETS, importance)
        return [sum(gain(int(importance[n]) * 1000, b.ranks.get(n, 0)) for n in b.front) for b in boards]

    for planned, even, one in zip(covered("planned"), covered("uniform"), covered("hetlora"), strict=True):
        assert planned >= max(even, one)
    assert covered("planned") > covered("uniform")


@pytest.mark.parametrize("method", recipes.METHODS)
def test_every_method_learns(model: Slotted, method: str) -> None:
    """Two rounds lower the loss, with a curve and bytes for each of them."""
    rates = dict.fromkeys(recipes.METHODS, 0.02)
    recipe = recipes.Recipe(BUDGETS, TARGETS, rates, 10, 4, 3, 4, 20, boards=3)
    run, rows = Run("e2e", method, 0, "float32", 0.02), np.arange(24)
    importance = dict.fromkeys(model.slots, 1.0)
    model.border = 0
    before = float(model.losses(rows, {})[0]) / int((model.labels != IGNORED).sum())
    learn(run, model, recipe, rows % 3, Parts(rows, rows, rows), importance, None)
    assert run.test[0] < before
    assert len(run.curve) == len(run.adapter_bytes) == len(run.crossing_bytes) == 3
    assert (run.crossing_bytes[0] > 0) == (method != "centralised")


def test_lines_say_rounds_to_the_target() -> None:
    """The target is the other method's last loss of the same seed; who never reaches it is said so."""
    one = {"task": "e2e", "coding": "float32", "adapter_bytes": [2**20], "crossing_bytes": [2**21], "plans": 1}
    found = [
        {**one, "method": method, "seed": seed, "test": (np.log(p), 0.5), "curve": curve}
        for method, seed, p, curve in (
            ("hetlora", 0, 8.0, [(3.0, 0), (2.0, 0)]),
            ("hetlora", 1, 10.0, [(3.0, 0), (2.5, 0)]),
            ("planned", 0, 6.0, [(2.0, 0), (1.0, 0)]),
            ("planned", 1, 6.0, [(2.6, 0), (2.6, 0)]),
        )
    ]
    lines = {line[0]: line for line in table.lines(found, "e2e")}
    assert lines["hetlora"][1:4] == ["9.00 (8.00 to 10.00)", "2.0 of 2", "1.00"]
    assert lines["planned"][1:4] == ["6.00 (6.00 to 6.00)", "1.0 of 2 (1 of 2 seeds)", "-"]


def test_the_frozen_recipes_are_whole() -> None:
    """Both tasks have a rate for every method."""
    found = recipes.read()
    assert set(found) == {"e2e", "sst2"}
    assert all(set(recipe.rates) == set(recipes.METHODS) for recipe in found.values())
    assert all(len(recipe.budgets) == recipe.boards == 5 for recipe in found.values())
    assert LARGEST_RANK == 16
