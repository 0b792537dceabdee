"""What boards count by, and rounds in which one of them is bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from console.arguments import Arguments
from console.errors import HubError, UsageError
from hub.aggregation import weights
from hub.making import versions
from hub.making.contributions import Contribution
from hub.making.recipe import Recipe, chosen
from hub.making.weighing import weighted
from hub.show import rounds as show_rounds
from hub.verbs import recipe
from tests.hub.world import World
from wire.adapter import Adapter
from wire.kinds.lora import Lora
from wire.record import plain

MakeWorld = Callable[..., World]


def boards(rows: list[int], metrics: list[dict[str, Any]] | None = None) -> list[Contribution]:
    """Contributions that nobody reads."""
    told = metrics or [{} for _ in rows]
    return [
        Contribution(f"board-{i}", n, lambda: Adapter("tiny"), m)
        for i, (n, m) in enumerate(zip(rows, told, strict=True))
    ]


def test_rows_count_up_to_a_multiple_of_the_median() -> None:
    """What a board declares counts at most so many times the median; the cut is said with its name."""
    shares = weighted(boards([10, 20, 30, 1_000_000]), Recipe(weights_cap=4.0))

    np.testing.assert_allclose(shares.values, np.array([10, 20, 30, 100]) / 160)
    assert shares.notes == ("weights above 4 times the median were cut: board-3 to 0.0001 of it",)
    assert shares.head_factors(3)[0] == pytest.approx(1e-4)
    free = weighted(boards([10, 20, 30, 1_000_000]), Recipe(weights_cap=0.0))
    np.testing.assert_allclose(free.values, np.array([10, 20, 30, 1_000_000]) / 1_000_060)
    assert free.notes == ()


def test_risk_is_rows_times_loss_to_a_power() -> None:
    """Boards that do badly count more; without a loss, or with one that is none, a board has the median of the rest."""
    told = [{"loss_first": 1.0}, {"loss_first": 4.0}, {}, {"loss_first": -1.0}, {"loss": 2.0}]
    wanted = np.array([1, 16, 4, 4, 4]) * [10, 10, 20, 10, 10]

    found = weighted(boards([10, 10, 20, 10, 10], told), Recipe(weights="risk", risk_power=2.0, weights_cap=0.0))

    np.testing.assert_allclose(found.values, wanted / wanted.sum())
    plain = weighted(boards([10, 30], [{"loss_first": 9.0}, {"loss_first": 1.0}]), Recipe(weights="risk", risk_power=0))
    np.testing.assert_allclose(plain.values, [0.25, 0.75])


def test_a_loss_that_is_made_up_is_capped_too() -> None:
    """A board that declares an enormous loss counts no more than the cap allows."""
    told = [{"loss_first": 1.0}, {"loss_first": 1.0}, {"loss_first": 1e12}]

    found = weighted(boards([10, 10, 10], told), Recipe(weights="risk", weights_cap=3.0))

    np.testing.assert_allclose(found.values, [0.2, 0.2, 0.6])


def test_all_alike() -> None:
    """Uniform weights do not look at what boards declare."""
    np.testing.assert_allclose(weighted(boards([1, 10**9]), Recipe(weights="uniform")).values, [0.5, 0.5])


def test_every_kind_of_weight_can_be_chosen() -> None:
    """The names that the option offers are the names that a recipe takes."""
    for name in weights.WEIGHTS:
        assert chosen(Recipe(), {"weights": name}).weights == name
    with pytest.raises(UsageError, match=r"weights: expected one of samples, risk, uniform, found 'rows'"):
        chosen(Recipe(), {"weights": "rows"})
    with pytest.raises(UsageError, match=r"expected a robust rule among none, clip"):
        chosen(Recipe(), {"robust": "krumm"})
    with pytest.raises(UsageError, match=r"robust_clip: expected at least 1e-09, found 0"):
        chosen(Recipe(), {"robust": "clip", "robust_clip": 0})


def test_every_setting_of_a_recipe_is_an_option() -> None:
    """What hub.toml may say of an aggregation, a round may say too, and what is not said stays as hub.toml has it."""
    parser = Arguments()
    recipe.parse(parser)
    said = {
        "method": "mean",
        "weights": "risk",
        "weights_cap": 5.0,
        "risk_power": 2.0,
        "robust": "krum",
        "robust_bad": 2,
        "robust_clip": 3.0,
        "robust_cosine": 0.5,
        "optimiser": "adam",
        "server_rate": 0.5,
        "server_cohort": 7,
        "server_beta1": 0.5,
        "server_beta2": 0.75,
        "thin": "int8",
        "head": "ridge",
        "head_strength": 0.25,
        "head_order": 2,
    }
    assert set(said) == set(recipe.FIELDS)
    words = [f"--{'aggregate' if n == 'method' else n.replace('_', '-')}={value}" for n, value in said.items()]

    assert recipe.recipe_of(parser.parse_args(words)) == said
    assert recipe.recipe_of(parser.parse_args([])) == {}
    assert plain(chosen(Recipe(), said)) == said


def test_a_board_with_half_of_all_shares_is_named(make_world: MakeWorld) -> None:
    """A median holds against less than half of all shares; where one board has them, the round says so."""
    world = make_world()

    found = world.run("train", recipe={"robust": "geometric-median"})
    assert "alone has half" not in found["sentence"]

    mill = world.devices["mill"]
    mill.features, mill.classes = np.tile(mill.features, (5, 1)), np.tile(mill.classes, 5)
    for rule in ("geometric-median", "median"):
        found = world.run("train", recipe={"robust": rule})
        assert f"mill alone has half of all shares or more, so {rule} follows it" in found["sentence"]
    assert "median of 3 updates, number by number" in found["sentence"]


def spoil(world: World, name: str) -> None:
    """A device sends, from now on, what nobody learned."""
    device = world.devices[name]
    device.train = lambda slot, start: Lora(start.a, start.b + np.float32(5e4), start.scale)


def ladder(world: World, number: int = -1) -> dict[str, Lora]:
    """The ladder of a version."""
    return versions.read_ladder(
        versions.read_made(world.hub.home.ledger.versions()[number]).version, world.hub.home.blobs
    )


def largest(world: World) -> float:
    """The largest norm of a slot of the newest version."""
    return max(float(np.linalg.norm(w.product())) for w in ladder(world).values())


def test_a_round_says_whom_its_rule_shortened(make_world: MakeWorld) -> None:
    """With a board gone mad, clipping keeps the version small, and the round says who was shortened and by how much."""
    world = make_world()
    spoil(world, "coop")
    plain = world.run("train")
    wild = largest(world)
    world = make_world()
    spoil(world, "coop")

    found = world.run("train", recipe={"robust": "clip-median"})

    assert plain["state"] == found["state"] == "complete"
    assert largest(world) < wild / 100
    assert "clip-median shortened coop to " in found["sentence"]
    assert found["recipe"]["robust"] == "clip-median"
    assert "by stacking, weights by samples, clip-median" in show_rounds.round_text(found)


def test_a_filter_leaves_a_board_out(make_world: MakeWorld) -> None:
    """A board whose direction is not that of the others is left out, with its name in the round's sentence."""
    world = make_world()
    g = np.random.default_rng(0)
    moves: dict[str, Any] = {}

    def same(slot: str, start: Lora) -> Lora:
        move = moves.setdefault(slot, g.standard_normal((1, start.b.shape[1])).astype(np.float32))
        b = start.b.copy()
        b[:1] += move
        return Lora(start.a, b, start.scale)

    for device in world.devices.values():
        device.train = same
    spoil(world, "mill")

    found = world.run("train", recipe={"robust": "cosine", "robust_cosine": 0.5})

    assert "cosine left out mill" in found["sentence"]
    for slot, factors in ladder(world).items():
        began = ladder(world, 0)[slot]
        wanted = began.scale * np.outer(began.a[:, 0], moves[slot])
        np.testing.assert_allclose(factors.product(), wanted, atol=1e-5)


def test_a_bad_bias_and_a_bad_head_are_seen_too(make_world: MakeWorld) -> None:
    """A rule measures all that a board changed: a wild bias alone, or a wild head alone, is shortened as well."""
    world = make_world(biases={"layer.0.query": 6})
    for device in world.devices.values():
        device.bias_moves = {"layer.0.query": np.ones(6, np.float32)}
    world.devices["mill"].bias_moves = {"layer.0.query": np.full(6, -1e5, np.float32)}

    found = world.run("train", settings={"kinds": ["bias"]}, recipe={"robust": "clip-median"})

    assert "clip-median shortened mill to 1e-05 of its length" in found["sentence"]
    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    assert np.abs(versions.read_biases(made, world.hub.home.blobs)["layer.0.query"]).max() <= 1.0

    world.devices["coop"].head_move = 1e5
    found = world.run("train", settings={"head": True}, recipe={"robust": "clip-median"})

    assert "coop to " in found["sentence"]
    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    heads = versions.read_heads(made, world.hub.home.blobs)
    assert max(np.abs(head.weight).max() for head in heads.values()) < 1e3


def test_a_rule_that_needs_more_boards_is_refused_at_once(make_world: MakeWorld) -> None:
    """Three devices are too few for Krum against one bad: the round is not opened, and the message says how many."""
    world = make_world()

    with pytest.raises(HubError, match=r"at least 5 updates for the robust rule krum against 1 bad, found 3"):
        world.ask("open", kind="train", recipe={"robust": "krum"})

    assert world.ask("open", kind="statistics", recipe={"robust": "krum"})["round"] == 1


def test_the_quorum_is_at_least_what_a_rule_needs(make_world: MakeWorld) -> None:
    """A round whose rule needs three updates does not make a version out of two."""
    world = make_world()
    world.devices["mill"].excuse = "its disk is full"

    found = world.run("train", recipe={"robust": "geometric-median"})

    assert found["quorum"] == 3
    assert found["state"] == "failed"
    assert "2 of 3 devices answered, 3 are needed" in found["sentence"]
