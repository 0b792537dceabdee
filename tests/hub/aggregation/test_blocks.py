"""Rules that look at each number by itself, by blocks of rows, against numpy and scipy over whole matrices."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import numpy as np
import pytest
from scipy import stats

from console.errors import UsageError
from hub.aggregation.blocks import passes, reduced
from hub.aggregation.gram import Changes
from hub.aggregation.products import Change
from hub.aggregation.robust.coordinates import median, trimmed_mean
from hub.aggregation.robust.rule import Bounds
from hub.making import versions
from hub.making.recipe import Recipe, chosen
from tests.hub.aggregation.crowd import BAD, SHAPES, Array, Factors, changed, honest, sent
from tests.hub.world import World
from wire.kinds.lora import Lora

MakeWorld = Callable[..., World]


def test_the_median_is_numpys() -> None:
    """With equal weights the weighted median is the median, for odd and even numbers of boards."""
    g = np.random.default_rng(0)
    for count in (3, 4, 7, 10):
        stack = g.standard_normal((count, 5, 6))
        np.testing.assert_allclose(median(stack, np.full(count, 0.1), Bounds()), np.median(stack, axis=0), rtol=1e-14)


def test_weights_of_a_median_are_repetitions() -> None:
    """A board of weight three is the same as three boards of weight one."""
    g = np.random.default_rng(1)
    stack, weights = g.standard_normal((5, 4, 3)), np.array([3, 1, 2, 1, 4])

    found = median(stack, weights / weights.sum(), Bounds())

    np.testing.assert_allclose(found, np.median(np.repeat(stack, weights, axis=0), axis=0), rtol=1e-14)


def test_the_trimmed_mean_is_scipys() -> None:
    """With equal weights and two bad of nine it is scipy's trimmed mean of two ninths."""
    stack = np.random.default_rng(2).standard_normal((9, 5, 6))

    found = trimmed_mean(stack, np.ones(9), Bounds(bad=2))

    np.testing.assert_allclose(found, stats.trim_mean(stack, 2 / 9 + 1e-9, axis=0), rtol=1e-13)


def some(start: Factors, trained: Factors, parts: Collection[str]) -> Changes:
    """What a board changed of some parts."""
    return {name: one for name, one in changed(start, trained).items() if name in parts}


def products(start: Factors, trained: Factors) -> dict[str, Array]:
    """The changes of a board as whole matrices."""
    return {n: w.product() - start[n].prefix(w.rank).product() for n, w in trained.items()}


@pytest.mark.parametrize("budget_bytes", [0, 3000, 1 << 30])
def test_blocks_make_the_whole(budget_bytes: int) -> None:
    """However small the budget, the blocks together are the median of whole matrices, part by part in order."""
    g = np.random.default_rng(3)
    start = sent(g)
    boards = honest(g, start, [2, 4, 8, 8, 12])
    readers = [partial(some, start, one) for one in boards]

    found = list(reduced(readers, SHAPES, lambda part, stack: np.median(stack, axis=0), budget_bytes))

    assert [name for name, _ in found] == sorted(SHAPES)
    for name, made in found:
        whole = np.stack([products(start, one)[name] for one in boards])
        np.testing.assert_allclose(made, np.median(whole, axis=0), atol=1e-12)


def test_a_budget_is_kept() -> None:
    """Blocks that are done together take no more than the budget, but for one row of each; no row is left out."""
    shapes = {"a": (64, 48), "b": (10, 200), "c": (1, 5)}
    for count in (3, 50, 1000):
        seen = {name: [0] * rows for name, (rows, _) in shapes.items()}
        for blocks in passes(shapes, count, 200_000):
            size = sum(8 * count * (b.high - b.low) * shapes[b.part][1] for b in blocks)
            assert size <= max(200_000, 8 * count * shapes[blocks[0].part][1])
            for b in blocks:
                for row in range(b.low, b.high):
                    seen[b.part][row] += 1
        assert all(times == 1 for rows in seen.values() for times in rows)


def test_a_part_that_a_board_lacks_is_no_change() -> None:
    """A board without a place for a bias votes for leaving it as it is."""
    one = {"bias b": Change(np.ones((1, 1)), np.full((1, 2), 3.0))}

    found = dict(
        reduced(
            [lambda parts: one, lambda parts: {}, lambda parts: {}],
            {"bias b": (1, 2)},
            lambda part, s: np.median(s, axis=0),
        )
    )

    np.testing.assert_array_equal(found["bias b"], np.zeros((1, 2)))


@pytest.mark.parametrize("kind", BAD)
def test_bad_boards_do_not_move_the_middle(kind: str) -> None:
    """With three bad boards of eight, both rules stay by the honest mean; the plain mean does not."""
    g = np.random.default_rng(4)
    start = sent(g)
    good = honest(g, start, [4, 4, 8, 8, 8, 12, 4, 8])
    boards = [*good[:5], *(BAD[kind](g, start, one) for one in good[5:])]
    readers = [partial(some, start, one) for one in boards]
    wanted = {name: np.mean([products(start, one)[name] for one in good[:5]], axis=0) for name in SHAPES}

    for rule in (median, trimmed_mean):
        for name, made in reduced(readers, SHAPES, lambda part, s, r=rule: r(s, np.ones(8), Bounds(bad=3))):  # type: ignore[misc]  # a default binds the loop's variable
            assert np.linalg.norm(made - wanted[name]) < 0.3 * np.linalg.norm(wanted[name])
    for name, made in reduced(readers, SHAPES, lambda part, s: s.mean(axis=0)):
        assert np.linalg.norm(made - wanted[name]) > np.linalg.norm(wanted[name])


def test_a_round_takes_the_median_of_each_number(make_world: MakeWorld) -> None:
    """The version of a round is what was sent and the median of changes of factors and biases, up to its truncation."""
    world = make_world(biases={"layer.0.query": 6})
    moves = {"barn": 1.0, "coop": 2.0, "mill": -1e5}
    for name, device in world.devices.items():
        device.train = (
            lambda slot, start, by=moves[name]: Lora(  # type: ignore[misc]  # a default binds the variable
                start.a, np.concatenate([start.b[:1] + np.float32(by), start.b[1:]]), start.scale
            )
        )
        device.bias_moves = {"layer.0.query": np.full(6, moves[name], np.float32)}
    blobs = world.hub.home.blobs
    began = versions.read_ladder(versions.read_made(world.hub.home.ledger.versions()[0]).version, blobs)

    found = world.run("train", settings={"kinds": ["lora", "bias"]}, recipe={"robust": "median", "weights": "uniform"})

    assert found["state"] == "complete"
    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    for slot, factors in versions.read_ladder(made, blobs).items():
        each = [
            by * began[slot].scale * np.outer(began[slot].a[:, 0], np.ones(factors.b.shape[1])) for by in moves.values()
        ]
        np.testing.assert_allclose(factors.product(), np.median(each, axis=0), atol=1e-5)
    np.testing.assert_array_equal(versions.read_biases(made, blobs)["layer.0.query"], np.ones(6))


def test_a_round_of_biases_leaves_the_factors_alone(make_world: MakeWorld) -> None:
    """Where only biases were trained, the rungs are those of the parent, byte for byte."""
    world = make_world(biases={"layer.0.query": 6})
    for device in world.devices.values():
        device.bias_moves = {"layer.0.query": np.ones(6, np.float32)}
    world.run("train")
    before = versions.read_made(world.hub.home.ledger.versions()[-1]).version

    world.run("train", settings={"kinds": ["bias"]}, recipe={"robust": "trimmed-mean"})

    after = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    assert after.rungs == before.rungs
    assert after.others


def test_what_makes_no_sense_is_refused(make_world: MakeWorld) -> None:
    """A rule by numbers needs whole products and has no middle of heads of other classes; both are said."""
    world = make_world()
    with pytest.raises(UsageError, match="expected a robust rule that weighs boards with --train-head, found median"):
        world.ask("open", kind="train", settings={"head": True}, recipe={"robust": "median"})
    assert chosen(Recipe(), {"robust": "median"}).least == 3
    assert chosen(Recipe(), {"robust": "trimmed-mean", "robust_bad": 4}).least == 9
