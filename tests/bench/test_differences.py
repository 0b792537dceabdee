"""The bench of fronts that run forward only: what a front learns before a tail, and what is predicted for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.differences import memory
from bench.differences.learning import FRONT, RANK, TARGETS, Front, Trial, Way, compared, cosine, learn
from bench.splitting.models import SCALE, Slotted, slotted
from bench.splitting.rounds import begun
from console.errors import DoesNotFit
from devices.fronts import BoardSplit, split
from devices.fronts import Front as Asked
from devices.plan import Board
from edge.split.differences import Differences
from export.prepare import Wanted, prepare
from tests.export.models import tiny_bert
from wire.kinds.head import Head


@pytest.fixture
def model(tmp_path: Path) -> Slotted:
    """A tiny encoder over drawn rows of two classes."""
    from transformers import AutoModel

    rng = np.random.default_rng(0)
    ids, lengths, classes = rng.integers(1, 90, (96, 8)), rng.integers(4, 9, 96), rng.integers(0, 2, 96)
    loaded: Any = AutoModel.from_pretrained(tiny_bert(tmp_path / "bert"), add_pooling_layer=False)
    return slotted(loaded, (ids, lengths, classes), TARGETS, decodes=False)


def drawn_head(model: Slotted) -> Head:
    """A head with random weights."""
    weight = np.random.default_rng(3).standard_normal((model.width, 2)).astype(np.float32)
    return Head(weight, np.zeros(2, np.float32))


def test_many_directions_find_what_autograd_finds(model: Slotted) -> None:
    """The mean over K directions of P numbers has a cosine of about sqrt(K / (K + P)) with the gradient."""
    front, rng, count = Front(model), np.random.default_rng(1), 200
    leaves = {
        name: tuple(torch.tensor(rng.standard_normal(s), dtype=torch.float32, requires_grad=True) for s in sizes)
        for name, sizes in ((name, ((i, 1), (1, o))) for name, (i, o) in model.slots.items())
    }
    own = [factor for name in front.slots for factor in leaves[name]]
    head = drawn_head(model)
    fed = {name: (a, b) for name, (a, b) in leaves.items()}
    loss, _ = model.losses(np.arange(6), fed, [model.there(head.weight), model.there(head.bias)])
    *true, back = torch.autograd.grad(loss, [*own, front.last[2]])

    found = front.estimated(Differences(5, 0, front.names, count), own, back)

    wanted = np.sqrt(count / (count + sum(one.numel() for one in own)))
    assert cosine(found, true) == pytest.approx(wanted, abs=0.1)
    assert cosine(true, true) == pytest.approx(1.0)


@pytest.mark.parametrize("learns", ["rest", "gradients", "differences"])
def test_a_front_moves_only_where_it_learns(model: Slotted, learns: str) -> None:
    """The factors of a front at rest stay to the bit; the tail learns before every front."""
    front, drawn = Front(model), np.arange(12).reshape(3, 4)
    start = {name: one.prefix(2) for name, one in begun(model, 0).items()}

    made, head, cosines = learn(front, Way(learns, 2, 3), start, drawn_head(model), drawn, 0.01, 0)

    assert len(front.slots) == 2
    for name, lora in made.items():
        moved = not np.array_equal(lora.b, start[name].b)
        assert moved == (learns != "rest" or not name.startswith(FRONT))
        assert lora.scale == SCALE
    assert len(cosines) == (len(drawn) if learns == "differences" else 0)
    assert not np.array_equal(head.weight, drawn_head(model).weight)


def test_lines_are_held_against_rest_and_gradients(model: Slotted) -> None:
    """What gradients gain is 1 by definition; the losses of all ways are of the same rows and draws."""
    trial = Trial(model, model.labels, np.arange(96), rows=80, batch=8)
    ways = [Way("rest", 2), Way("gradients", 2), Way("differences", 2, 2)]

    lines = compared(trial, ways, seeds=2, steps=6, rate=0.002)
    again = compared(trial, ways[:2], seeds=1, steps=6, rate=0.002)

    assert [line["front"] for line in lines] == ["rest", "gradients", "differences"]
    assert lines[0]["gain"] is None
    assert lines[1]["gain"] == pytest.approx(1.0)
    assert lines[1]["loss"][0] < lines[0]["loss"][0]
    assert lines[0]["loss"][0] == pytest.approx(again[0]["loss"][0])
    assert all(len(line["loss"]) == 2 for line in lines)
    assert -1 < lines[2]["cosine"] < 1


def test_memory_is_what_a_split_is_planned_with(tmp_path: Path) -> None:
    """A board with as many bytes holds that front as one segment by the planner of splits, with one less not."""
    source, tokens = tiny_bert(tmp_path / "bert", layers=2), 8
    wanted = Wanted(str(source), "feature-extraction", memory.CLASSES, tokens, "every-block", micro_batches=(8,))
    prepared = prepare(wanted, (memory.FORMAT,), tuple(memory.MODES), tmp_path)
    units = {mode: prepared.cost(memory.BATCH, mode).units for mode in memory.MODES}
    shown = memory.predicted(source, [tokens])
    ends = list(memory.borders(units["train"]))

    assert [line["front"] for line in shown] == [name for name, _ in ends] == ["first attention", "1 block"]
    tail = Board("tail", 1 << 40, "train", memory.FORMAT, RANK)

    def cuts(mode: str, end: int, size: int) -> tuple[int, ...] | None:
        front = Asked(Board("board", size, mode, memory.FORMAT, RANK), end)
        try:
            plan = split({8: units["train"]}, BoardSplit((front,), tail), forward={8: units["train-forward"]})
        except DoesNotFit:
            return None
        return plan.fronts[0].decision.cuts

    for line, (_, end) in zip(shown, ends, strict=True):
        for mode, header in memory.MODES.items():
            size = memory.front_bytes(units[mode], mode, end)
            assert line[header] == pytest.approx(size / 2**20, abs=0.05)
            assert cuts(mode, end, size) == ()
            assert cuts(mode, end, size - 1) != ()
        assert line[memory.MODES["train"]] >= line[memory.MODES["train-forward"]]
