"""Rounds by the methods of comparison, over the whole way: which factor learns, what is refused, what is made."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from console.errors import HubError, UsageError
from hub.aggregation.methods import METHODS
from hub.making import versions
from hub.making.recipe import Recipe, chosen
from hub.show import rounds as show_rounds
from hub.verbs.main import main
from tests.hub.world import RANKS, World
from wire.kinds.lora import Lora

MakeWorld = Callable[..., World]
one_ledger = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # methods know no database
ONE_FACTOR = ("rolora", "ffa", "nested-ffa")


def ladders(world: World) -> list[dict[str, Lora]]:
    """The ladders of all versions, in order."""
    home = world.hub.home
    return [versions.read_ladder(versions.read_made(row).version, home.blobs) for row in home.ledger.versions()]


def same(one: dict[str, Lora], other: dict[str, Lora], factor: str) -> bool:
    """Whether a factor is the same to the bit in all slots."""
    return all(np.array_equal(getattr(one[slot], factor), getattr(other[slot], factor)) for slot in one)


@one_ledger
@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_versions_of_a_fleet(make_world: MakeWorld, name: str) -> None:
    """Two rounds of boards of rank 2, 4 and 16, or at most 2 where ranks must be equal, make versions that moved."""
    world = make_world()
    settings = {"ranks": [2]} if METHODS[name].equal_ranks else {}
    for _ in range(2):
        found = world.run("train", recipe={"method": name}, settings=settings)
        assert (found["state"], found["recipe"]["method"]) == ("complete", name)

    first, second, third = ladders(world)

    for before, after in ((first, second), (second, third)):
        assert all(np.abs(after[slot].product() - before[slot].product()).max() > 1e-3 for slot in after)


@one_ledger
def test_rolora_alternates_over_rounds_that_made_something(make_world: MakeWorld) -> None:
    """B learns first and then A; a round of statistics and one that failed in between do not count."""
    world = make_world()
    jobs = [world.run("train", recipe={"method": "rolora"})["settings"]["factors"]]
    world.run("statistics")
    world.ask("stop", round=world.ask("open", kind="train", recipe={"method": "rolora"})["round"])
    jobs.append(world.run("train", recipe={"method": "rolora"})["settings"]["factors"])

    first, second, _, third = ladders(world)

    assert jobs == ["b", "a"]
    assert same(first, second, "a")
    assert same(second, third, "b")
    assert not same(second, third, "a")


@one_ledger
@pytest.mark.parametrize("name", ONE_FACTOR)
def test_a_board_that_trains_both_factors_is_refused(make_world: MakeWorld, name: str) -> None:
    """An agent that does not know the setting moves both; its update is refused with a reason, the others count."""
    world = make_world()
    world.devices["coop"].rests = False

    found = world.run("train", recipe={"method": name}, settings={"ranks": [2]}, deadline_s=100)

    assert [r.status for r in world.devices["coop"].receipts] == ["refused"]
    assert "A of slot layer.0.query was to stay as it was sent" in world.devices["coop"].receipts[0].reason
    assert [d for d, s in found["per_device"].items() if s["state"] == "arrived"] == ["barn", "mill"]
    before, after = ladders(world)
    assert same(before, after, "a")


@one_ledger
def test_methods_of_one_rank_are_refused_before_a_round_opens(make_world: MakeWorld) -> None:
    """The fleet's ranks 2, 4 and 16 are named, with what to do; named devices or a common rank are fine."""
    world = make_world()

    with pytest.raises(HubError, match=r"one rank for mean, found 2 and 4 and 16; add --ranks 2"):
        world.ask("open", kind="train", recipe={"method": "mean"})
    assert set(RANKS.values()) == {2, 4, 16}
    assert world.run("train", recipe={"method": "mean"}, devices=["coop"])["state"] == "complete"


@one_ledger
def test_one_factor_and_spry_exclude_each_other(make_world: MakeWorld) -> None:
    """Directions are of both factors, so a method with one is refused when the round opens."""
    with pytest.raises(UsageError, match="trains both factors by spry, found ffa"):
        make_world().ask("open", kind="train", recipe={"method": "ffa"}, settings={"trainer": "spry", "ranks": [2]})


@pytest.mark.parametrize("name", ONE_FACTOR)
def test_a_resting_factor_allows_no_step_in_product_space(name: str) -> None:
    """Optimisers and rates of the server mix both factors, so such a recipe is refused."""
    with pytest.raises(UsageError, match=f"expected {name} with a plain step of 1"):
        chosen(Recipe(), {"method": name, "server_rate": 0.5})


def test_much_that_was_cut_off_is_a_warning() -> None:
    """Above 5 % of the norm of a slot, `round show` names it; below, it only says how much."""
    calm, much = ({"a": [tail, 1.0], "b": [0.0, 2.0], "c": [0.0, 0.0]} for tail in (0.04, 0.08))

    assert show_rounds.tails(calm)["above_limit"] == []
    assert "warning" not in "\n".join(show_rounds.cut_off(show_rounds.tails(calm)))
    assert show_rounds.tails(much)["above_limit"] == ["a"]
    assert "more than 5.0 % was cut off in a" in "\n".join(show_rounds.cut_off(show_rounds.tails(much)))


def test_the_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`hub methods` names all of them with what each loses, as text and as JSON."""
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["methods"]

    assert [row["method"] for row in found] == list(METHODS)
    assert all(f"\n{name} loses " in text for name in METHODS)
    assert {row["method"]: row["trains"] for row in found}["rolora"] == "B, then A"
