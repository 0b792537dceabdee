"""A front that learns against a head of its own meets its tail once: fewer bytes, and both halves have learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from console.errors import BadData
from edge.runner import Runner
from edge.split.channel import Channel, Ends, Note
from edge.split.job import SplitSettings, train_front
from edge.split.local import Alone
from edge.split.softmax import turned
from edge.train import TrainSettings
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.split.halves import SILENCE_S, Listened, Patient, beside, front_of, whole
from tests.edge.test_gradients import random_adapter, rows
from wire.kinds.head import Head

SETTINGS = TrainSettings(steps=30, batch=4, learning_rate=0.02, head=True)
LOCAL = SplitSettings(coding="float32", mode="local")


def test_both_halves_learn_with_one_meeting(tmp_path: Path) -> None:
    """The front's loss falls over its own steps; the tail steps once per batch of one pass; nothing comes down."""
    bundle = whole(tmp_path)
    start, given = random_adapter(bundle.manifest), rows(10)

    def act(channel: Channel) -> Any:
        return train_front(Runner(front_of(bundle, 1)), start, given, SETTINGS, channel, LOCAL, silence_s=SILENCE_S)

    (done, talk), tail = beside(bundle, start, SETTINGS, act)

    assert tail.problems == []
    session = tail.made[0]
    assert session.steps == talk.step == 3
    assert talk.taken_bytes == 0
    assert done.session.at == SETTINGS.steps
    assert done.losses[-1] < done.losses[0]
    assert done.adapter.heads == {}
    for name, lora in {**done.adapter.lora, **session.made().lora}.items():
        assert not np.array_equal(lora.b, start.lora[name].b)
    made = session.made().head
    assert made is not None
    assert start.head is not None
    assert not np.array_equal(made.weight, start.head.weight)


def test_the_gradient_of_a_front_with_its_own_head(tmp_path: Path) -> None:
    """Of factors and of the head: what autograd finds for layers of which the head sees the last one's output."""
    bundle, weights = whole(tmp_path), make_weights(3)
    runner = Runner(front_of(bundle, 2))
    start, given = random_adapter(bundle.manifest), rows(5)
    draw = np.random.default_rng(4)
    head = Head(draw.normal(size=(5, 3)).astype(np.float32), draw.normal(size=3).astype(np.float32))
    front = Alone(runner.bundle)
    front.head = head
    runner.chain = front
    own = replace(start, lora={n: start.lora[n] for n in ("layer.0", "layer.1")}, heads={0: head})
    found = runner.gradients(given, replace(own, heads={}))

    oracle = Oracle(replace(weights, w=weights.w[:2], b=weights.b[:2]), own)
    loss, expected = oracle.gradients(pixels([row.sample for row in given]), [row.label for row in given])
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert set(found.by_input) == set(expected)
    for name, gradient in expected.items():
        assert np.allclose(found.by_input[name], gradient, atol=1e-4), name


def test_softmax_regression_is_autograds() -> None:
    """Loss and gradients of the head and of the features, with weights of rows."""
    draw = np.random.default_rng(1)
    features, weight = draw.normal(size=(6, 4)).astype(np.float32), draw.normal(size=(4, 3)).astype(np.float32)
    bias, labels = draw.normal(size=3).astype(np.float32), np.array([0, 2, 1, 1, 0, 2])
    weights = np.array([1, 1, 0, 2, 1, 0.5], np.float32)
    f, w, b = (torch.tensor(a.astype(np.float64), requires_grad=True) for a in (features, weight, bias))
    each = torch.nn.functional.cross_entropy(f @ w + b, torch.tensor(labels), reduction="none")
    (each * torch.tensor(weights)).sum().backward()

    made = turned(features, Head(weight, bias), labels, weights)

    assert made.loss == pytest.approx(float((each * torch.tensor(weights)).sum().detach()), rel=1e-6)
    for ours, theirs in ((made.features, f), (made.weight, w), (made.bias, b)):
        assert theirs.grad is not None
        assert np.allclose(ours, theirs.grad.numpy(), atol=1e-6)


def test_a_tail_hears_of_a_front_that_learns_alone(tmp_path: Path) -> None:
    """Nothing crosses before the meeting, so the board says at each step that it is there."""
    bundle, said = whole(tmp_path), list[Note]()
    start = random_adapter(bundle.manifest)

    def act(channel: Channel) -> None:
        listened = Listened(Patient(channel), said)
        train_front(Runner(front_of(bundle, 1)), start, rows(8), SETTINGS, listened, LOCAL, silence_s=0.0)

    _, tail = beside(bundle, start, SETTINGS, act)

    assert tail.problems == []
    assert [note.what for note in said].count("busy") == SETTINGS.steps
    assert "busy" not in [note.what for note in said[said.index(next(n for n in said if n.what == "forth")) :]]


def test_labels_cannot_stay_where_halves_meet_once(tmp_path: Path) -> None:
    """The tail learns from what goes up, so labels must go with it; a sentence, before anything is sent."""
    bundle = whole(tmp_path)
    with pytest.raises(BadData, match="expected labels to go along where the halves meet once"):
        train_front(
            Runner(front_of(bundle, 1)),
            random_adapter(bundle.manifest),
            rows(4),
            SETTINGS,
            Ends().board,
            replace(LOCAL, labels="stay"),
        )
