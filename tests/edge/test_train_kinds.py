"""Train jobs asked for more, or other things, than factors: what learns, what stays, and what comes with a version."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from console.errors import BadData
from edge.assemble import assemble
from edge.request import needed_blobs
from edge.train import TrainSettings, train
from tests.edge.test_gradients import random_adapter, rows, runner
from wire.adapter import Adapter, to_bytes
from wire.messages import Rung, Version

KINDS = {
    "factors": (("lora",), False),
    "biases": (("bias",), False),
    "both": (("lora", "bias"), False),
    "a head too": (("lora",), True),
}


@pytest.mark.parametrize(("kinds", "head"), KINDS.values(), ids=KINDS)
def test_only_what_was_asked_for_learns(tmp_path: Path, kinds: tuple[str, ...], head: bool) -> None:
    """Whatever the job names moves; everything else of the adapter is what it was, byte for byte."""
    run = runner(tmp_path, biases=True)
    start = random_adapter(run.manifest)

    made = train(
        run, start, rows(6), TrainSettings(steps=3, batch=4, learning_rate=0.01, kinds=kinds, head=head)
    ).adapter

    for slot in start.lora:
        assert np.array_equal(made.lora[slot].a, start.lora[slot].a) == ("lora" not in kinds)
        assert np.array_equal(made.bias[slot], start.bias[slot]) == ("bias" not in kinds)
    assert made.head is not None
    assert start.head is not None
    assert np.array_equal(made.head.weight, start.head.weight) == (not head)


@pytest.mark.parametrize("factors", ["a", "b"])
def test_a_factor_that_rests_comes_back_as_it_was(tmp_path: Path, factors: Literal["a", "b"]) -> None:
    """A job for one factor moves it in every slot, and leaves the other to the bit, weight decay or not."""
    run = runner(tmp_path)
    start = random_adapter(run.manifest)
    settings = TrainSettings(steps=3, batch=4, learning_rate=0.01, weight_decay=0.1, factors=factors)

    made = train(run, start, rows(6), settings).adapter

    for slot in start.lora:
        assert np.array_equal(made.lora[slot].a, start.lora[slot].a) == (factors == "b")
        assert np.array_equal(made.lora[slot].b, start.lora[slot].b) == (factors == "a")


def test_one_factor_alone_does_not_go_forward_only(tmp_path: Path) -> None:
    """Directions of spry are of both factors, so a job for one of them is refused with a sentence."""
    run = runner(tmp_path)
    with pytest.raises(BadData, match="both factors to learn by spry"):
        train(run, random_adapter(run.manifest), rows(3), TrainSettings(steps=1, trainer="spry", factors="b"))


def test_biases_begin_at_nothing(tmp_path: Path) -> None:
    """A version without biases gives a change of 0 to every place, which then learns; the loss falls."""
    run = runner(tmp_path, biases=True)
    whole = random_adapter(run.manifest)
    start = Adapter(whole.model, whole.version, whole.lora, heads=whole.heads)

    done = train(run, start, rows(6), TrainSettings(steps=40, batch=6, learning_rate=0.02, kinds=("bias",)))

    assert set(done.adapter.bias) == {s.name for s in run.manifest.slots_of("bias")}
    assert all(delta.any() for delta in done.adapter.bias.values())
    assert done.losses[-1] < done.losses[0]


def test_kinds_without_a_place_are_refused(tmp_path: Path) -> None:
    """A bundle without places for biases says so when a job asks for nothing else."""
    run = runner(tmp_path)
    with pytest.raises(BadData, match="expected places for bias in the bundle, found none"):
        train(run, random_adapter(run.manifest), rows(3), TrainSettings(steps=1, kinds=("bias",)))


def test_other_kinds_come_with_a_version(tmp_path: Path) -> None:
    """A version's blob of other kinds is fetched at any rank, and is in the adapter that is made of its pieces."""
    run = runner(tmp_path, biases=True)
    whole = random_adapter(run.manifest)
    rung, others = to_bytes(Adapter(whole.model, lora=whole.lora)), to_bytes(Adapter(whole.model, bias=whole.bias))
    version = Version(
        whole.model, 1, "", 2, 2.0, (Rung(0, 2, "a" * 64, len(rung)),), (), others="b" * 64, others_bytes=9
    )

    assert needed_blobs(version, 0) == [("b" * 64, 9)]
    made = assemble(whole.model, "0" * 64, [rung], None, 1, others)
    assert {n: d.tolist() for n, d in made.bias.items()} == {n: d.tolist() for n, d in whole.bias.items()}
