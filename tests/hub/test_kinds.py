"""Rounds that train more than factors: changes of biases, and heads of boards that hold different classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import HubError, UsageError
from hub.aggregation import biases, head_rows
from hub.making import versions
from hub.making.versions import Made
from tests.hub.world import RANKS, World
from wire.kinds.head import Head

MakeWorld = Callable[..., World]
SIZES = {"layer.0.query": 6, "layer.1.value": 8}


def last(world: World) -> Made:
    """The newest version."""
    return versions.read_made(world.hub.home.ledger.versions()[-1])


def with_biases(make_world: MakeWorld) -> World:
    """A world whose model has two biases; mill has a place for one of them only."""
    world = make_world(biases=SIZES)
    g = np.random.default_rng(0)
    for name, device in world.devices.items():
        held = list(SIZES)[: 1 if name == "mill" else 2]
        device.bias_moves = {n: g.standard_normal(SIZES[n]).astype(np.float32) for n in held}
    return world


def test_biases_are_the_weighted_mean(make_world: MakeWorld) -> None:
    """After two rounds biases are the exact weighted mean; who has no place for one leaves it as it was sent."""
    world = with_biases(make_world)
    world.run("train", settings={"kinds": ["bias"]})
    world.run("train", settings={"kinds": ["lora", "bias"]})

    found = versions.read_biases(last(world).version, world.hub.home.blobs)

    rows = {name: len(d.classes) for name, d in world.devices.items()}
    for name, size in SIZES.items():
        wanted = np.zeros(size)
        for _ in range(2):
            moves = [(rows[n], d.bias_moves.get(name, np.zeros(size))) for n, d in world.devices.items()]
            wanted = wanted + sum(n * move for n, move in moves) / sum(rows.values())
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)


def test_a_round_of_biases_leaves_the_factors_alone(make_world: MakeWorld) -> None:
    """The rungs of the version are those of its parent, byte for byte, and so is the head."""
    world = with_biases(make_world)
    world.run("train")
    before = last(world).version
    world.run("train", settings={"kinds": ["bias"]})

    after = last(world).version
    assert (after.rungs, after.head) == (before.rungs, before.head)
    assert after.others
    assert not before.others
    kept = versions.read_biases(after, world.hub.home.blobs)
    world.run("statistics")  # and a new head leaves the biases alone
    assert all(
        np.array_equal(v, kept[n]) for n, v in versions.read_biases(last(world).version, world.hub.home.blobs).items()
    )


def test_boards_go_on_from_the_biases_of_the_version(make_world: MakeWorld) -> None:
    """What a board starts from holds the biases of the version that its job names."""
    world = with_biases(make_world)
    world.run("train", settings={"kinds": ["bias"]})
    world.run("train", settings={"kinds": ["bias"]})

    barn = world.devices["barn"]
    assert set(barn.biases(barn.versions[last(world).version.parent])) == set(SIZES)


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"kinds": ["magic"]}, "expected kinds among lora, bias, found"),
        ({"kinds": []}, "expected kinds among lora, bias, found"),
        ({"kinds": ["bias"]}, "expected places for biases in tiny, found none"),
    ],
)
def test_what_has_no_place_is_not_asked_for(
    make_world: MakeWorld, given_settings: dict[str, object], words: str
) -> None:
    """A kind that is not known, or that the model has no place for, is refused when the round is opened."""
    with pytest.raises((HubError, UsageError), match=words):
        make_world().ask("open", kind="train", settings=given_settings)


def test_a_trained_head_is_averaged_class_by_class(make_world: MakeWorld) -> None:
    """Column c of the new head is the mean of the boards' columns by their rows of class c."""
    world = make_world()
    world.run("statistics")
    sent = versions.read_heads(last(world).version, world.hub.home.blobs)[0]
    for index, device in enumerate(world.devices.values()):
        device.head_move = float(index + 1)

    world.run("train", settings={"head": True})

    made = last(world).version
    found = versions.read_heads(made, world.hub.home.blobs)[0]
    counts = np.array([np.bincount(d.classes, minlength=3) for d in world.devices.values()])
    moves = counts.T @ [1.0, 2.0, 3.0] / np.maximum(counts.sum(axis=0), 1)
    np.testing.assert_allclose(found.weight, sent.weight + moves, rtol=1e-5)
    np.testing.assert_allclose(found.bias, sent.bias + moves, rtol=1e-5)
    assert made.round == 2


def heads(seed: int, boards: int, features: int = 3, classes: int = 4) -> tuple[list[Head], np.ndarray]:
    """Heads, and rows of each class, some of which nobody has."""
    g = np.random.default_rng(seed)
    made = [
        Head(g.standard_normal((features, classes)).astype(np.float32), g.standard_normal(classes).astype(np.float32))
        for _ in range(boards)
    ]
    counts = g.integers(0, 4, (boards, classes))
    counts[:, 0] = 0
    return made, counts


@given(seed=st.integers(0, 999), boards=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_rows_of_heads_add_in_any_order(seed: int, boards: int) -> None:
    """Any order and any tree of sums give sum_k n_kc W_kc / sum_k n_kc; a class that nobody has keeps what was sent."""
    trained, counts = heads(seed, boards)
    sent = heads(seed + 1, 1)[0][0]
    states = [head_rows.apply(head_rows.init(3, 4), t, sent, tuple(n)) for t, n in zip(trained, counts, strict=True)]
    total = states[0]
    for state in np.random.default_rng(seed).permutation(np.arange(1, boards)):
        total = head_rows.merge(states[state], total)

    found = head_rows.finish(total, {0: sent})[0]

    for c in range(4):
        rows = counts[:, c].sum()
        wanted = (
            sum(n * t.weight[:, c] for n, t in zip(counts[:, c], trained, strict=True)) / rows
            if rows
            else sent.weight[:, c]
        )
        np.testing.assert_allclose(found.weight[:, c], wanted, atol=1e-5)
    assert np.array_equal(found.weight[:, 0], sent.weight[:, 0])
    assert found.bias[0] == sent.bias[0]


@given(seed=st.integers(0, 999), boards=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_biases_add_in_any_order(seed: int, boards: int) -> None:
    """Any order and any tree of sums give the weighted mean over all boards, in float64."""
    g = np.random.default_rng(seed)
    sent = {"a": g.standard_normal(5).astype(np.float32)}
    deltas, weights = g.standard_normal((boards, 5)).astype(np.float32), g.dirichlet(np.ones(boards))
    brings = g.random(boards) < 0.7
    parts = [biases.apply({}, {"a": d} if b else {}, float(w)) for d, w, b in zip(deltas, weights, brings, strict=True)]
    total = parts[0]
    for index in g.permutation(np.arange(1, boards)):
        total = biases.merge(parts[index], total)

    found = biases.finish(total, sent)["a"]

    wanted = sum(
        w * (d if b else sent["a"]) for d, w, b in zip(deltas.astype(np.float64), weights, brings, strict=True)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_fleet_has_its_ranks(make_world: MakeWorld) -> None:
    """A head that boards of unequal rank trained serves all of them."""
    world = make_world()
    world.run("train", settings={"head": True})

    assert len(RANKS) == 3
    assert list(versions.read_heads(last(world).version, world.hub.home.blobs)) == [0]
