"""Boards that hold some slots of a model: each slot is of those who hold it, as whole matrices in float64 say."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from console.errors import HubError
from hub.aggregation.methods import method_of
from hub.aggregation.shares import Shares, by_samples, shortened
from hub.making import versions
from hub.making.contributions import Contribution
from hub.making.making import combine
from hub.making.recipe import Recipe
from tests.hub.bundles import SLOTS, manifest, write_bundle
from tests.hub.world import RANKS, World
from wire.adapter import Adapter
from wire.kinds.lora import Lora

Array = NDArray[np.float64]
MakeWorld = Callable[..., World]
NAMES = tuple(sorted(SLOTS))
EXACT = ("stacking", "nested-ffa")  # and what they must give is one formula
boards = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 50), st.sets(st.sampled_from(NAMES), min_size=1)),
    min_size=1,
    max_size=6,
)


def moved(g: np.random.Generator, start: Lora, factor: str = "ab") -> Lora:
    """What a board makes of what it was sent."""
    a = start.a + ("a" in factor) * g.standard_normal(start.a.shape).astype(np.float32)
    b = start.b + g.standard_normal(start.b.shape).astype(np.float32)
    return Lora(a.astype(np.float32), b.astype(np.float32), start.scale)


def contributions(
    seed: int, told: list[tuple[int, int, set[str]]], sent: dict[str, Lora], factor: str
) -> list[Contribution]:
    """Boards of some ranks, rows and slots."""
    g, found = np.random.default_rng(seed), []
    for index, (rank, rows, slots) in enumerate(told):
        lora = {name: moved(g, sent[name].prefix(rank), factor) for name in sorted(slots)}
        adapter = Adapter("tiny", lora=lora)
        read, some = partial(_same, adapter), partial(_some, lora)
        found.append(Contribution(f"b{index}", rows, read, slots=some, holds=frozenset(slots)))
    return found


def _same(adapter: Adapter) -> Adapter:
    return adapter


def _some(lora: dict[str, Lora], names: Collection[str]) -> dict[str, Lora]:
    return {n: w for n, w in lora.items() if n in names}


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A hub whose tip carries something in every direction."""
    made = make_world()
    made.run("train")
    return made


def whole(world: World) -> tuple[versions.Made, dict[str, Lora]]:
    """The tip, and its ladder."""
    home = world.hub.home
    row = home.ledger.version(home.ledger.tip("tiny"))
    assert row is not None
    made = versions.read_made(row)
    return made, versions.read_ladder(made.version, home.blobs)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31), told=boards, name=st.sampled_from(EXACT), cut=st.lists(st.floats(0.1, 1.0), min_size=6)
)
def test_a_slot_is_the_mean_of_those_who_hold_it(
    world: World, seed: int, told: list[tuple[int, int, set[str]]], name: str, cut: list[float]
) -> None:
    """Its change is the mean, by rows, of what its holders changed of their prefixes; what a rule cuts stays off."""
    made, sent = whole(world)
    found = contributions(seed, told, sent, "b" if name == "nested-ffa" else "ab")
    shares = shortened(by_samples([rows for _, rows, _ in told]), np.array(cut[: len(told)]))

    lora = combine(world.hub.home, world.hub.desk().model, made, found, shares, Recipe(method=name), 2).lora

    assert set(lora) == {slot for _, _, slots in told for slot in slots}
    for slot, emitted in lora.items():
        all_of_them = zip(found, told, cut[: len(told)], strict=True)
        has = [(one.slots([slot])[slot], rows, part) for one, (_, rows, _), part in all_of_them if one.has(slot)]
        total = sum(rows for _, rows, _ in has)
        wanted: Array = sent[slot].product()
        for trained, rows, part in has:
            wanted = wanted + part * rows / total * (trained.product() - sent[slot].prefix(trained.rank).product())
        product = sent[slot].scale * emitted.a @ emitted.b
        assert np.linalg.norm(product - wanted) < 1e-6 * (1 + np.linalg.norm(wanted))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    told=boards,
    name=st.sampled_from(("stacking", "zero-pad", "hetlora", "flexlora", "fedex")),
)
def test_other_boards_might_not_be_there(
    world: World, seed: int, told: list[tuple[int, int, set[str]]], name: str
) -> None:
    """A slot is, by every method, what it would be in a round of its holders alone."""
    made, sent = whole(world)
    found = contributions(seed, told, sent, "ab")
    method, shares = method_of(name), by_samples([rows for _, rows, _ in told])

    lora = combine(world.hub.home, world.hub.desk().model, made, found, shares, Recipe(method=name), 2).lora

    for slot, emitted in lora.items():
        has = [(one.slots([slot])[slot], rows) for one, (_, rows, _) in zip(found, told, strict=True) if one.has(slot)]
        state = method.init(sent[slot])
        for (trained, _), share in zip(has, by_samples([rows for _, rows in has]).values, strict=True):
            state = method.apply(state, trained, float(share))
        alone = method.finish(state, 16, sent[slot].scale, 7, 1.0)
        np.testing.assert_allclose(emitted.a @ emitted.b, alone.a @ alone.b, atol=1e-9)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean"])
def test_those_vote_who_hold_a_slot(world: World, rule: str) -> None:
    """The middle of each number is that of the holders' changes; of too few for the rule a slot stays as it was."""
    made, sent = whole(world)
    both, one = set(NAMES), {NAMES[0]}
    told = [(6, 10, both), (6, 10, one), (6, 10, one), (6, 10, one), (6, 10, one)]
    found, shares = contributions(3, told, sent, "ab"), by_samples([10] * 5)

    lora = combine(world.hub.home, world.hub.desk().model, made, found, shares, Recipe(robust=rule), 2).lora

    assert set(lora) == one
    changes = np.sort([c.slots(one)[NAMES[0]].product() - sent[NAMES[0]].prefix(6).product() for c in found], axis=0)
    wanted = sent[NAMES[0]].product() + (changes[2] if rule == "median" else changes[1:4].mean(axis=0))
    emitted = lora[NAMES[0]]
    assert np.linalg.norm(sent[NAMES[0]].scale * emitted.a @ emitted.b - wanted) < 1e-5 * np.linalg.norm(wanted)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1), st.booleans()), min_size=1, max_size=8))
def test_shares_of_holders_are_in_their_relations(told: list[tuple[float, float, bool]]) -> None:
    """Before what a rule lets through, the shares of holders sum to all shares; to the bit where all hold the slot."""
    values, passed = (np.array([row[i] for row in told]) for i in range(2))
    plain = Shares(values / values.sum())
    cut, holds = shortened(plain, passed), [row[2] for row in told]

    found = cut.among(holds)

    assert not found[~np.array(holds)].any()
    if all(holds):
        assert found is cut.values
    elif any(holds):
        own = plain.values * holds
        np.testing.assert_allclose(found, own / own.sum() * passed, rtol=1e-9)


def test_a_board_with_fewer_slots_takes_part(make_world: MakeWorld, tmp_path: Path) -> None:
    """A whole board whose bundle has no place for some adapters trains the others; the rest is of the other boards."""
    world = make_world()
    held = manifest({NAMES[0]: SLOTS[NAMES[0]]}, device="small")
    barn = world.devices["barn"]
    barn.bundle = world.ask("add", folder=str(write_bundle(tmp_path / "small", world.publisher, *held)))["bundle"]
    barn.holds = frozenset({NAMES[0]})
    barn.hello()
    world.network.pump()
    _, before = whole(world)

    found = world.run("train")

    assert found["state"] == "complete"
    assert found["per_device"]["barn"]["state"] == "arrived"
    _, after = whole(world)
    for slot in NAMES:
        names = [n for n in RANKS if slot == NAMES[0] or n != "barn"]
        rows = {n: len(world.devices[n].classes) for n in names}
        wanted = before[slot].product()
        for name in names:
            start = before[slot].prefix(RANKS[name])
            change = world.devices[name].train(slot, start).product() - start.product()
            wanted = wanted + rows[name] / sum(rows.values()) * change
        assert np.linalg.norm(after[slot].product() - wanted) < 1e-6 * np.linalg.norm(wanted)


@pytest.mark.parametrize("optimiser", ["plain", "adam"])
def test_slots_that_nobody_holds_stay_as_they_are(make_world: MakeWorld, tmp_path: Path, optimiser: str) -> None:
    """To the bit, whatever the hub does with the mean of the others."""
    world = make_world()
    held = manifest({NAMES[0]: SLOTS[NAMES[0]]}, device="small")
    sha = world.ask("add", folder=str(write_bundle(tmp_path / "small", world.publisher, *held)))["bundle"]
    world.run("train")
    _, before = whole(world)
    for device in world.devices.values():
        device.bundle, device.holds = sha, frozenset({NAMES[0]})
        device.hello()
    world.network.pump()

    found = world.run("train", recipe={"optimiser": optimiser})

    assert found["state"] == "complete"
    _, after = whole(world)
    assert np.array_equal(before[NAMES[1]].a, after[NAMES[1]].a)
    assert np.array_equal(before[NAMES[1]].b, after[NAMES[1]].b)
    assert not np.array_equal(before[NAMES[0]].b, after[NAMES[0]].b)


def test_sums_under_masks_are_of_whole_boards(make_world: MakeWorld, tmp_path: Path) -> None:
    """A round under masks is refused where a board holds some slots, with its name."""
    world = make_world()
    held = manifest({NAMES[0]: SLOTS[NAMES[0]]}, device="small")
    sha = world.ask("add", folder=str(write_bundle(tmp_path / "small", world.publisher, *held)))["bundle"]
    world.devices["coop"].bundle = sha
    world.devices["coop"].hello()
    world.network.pump()
    with pytest.raises(HubError, match="that coop hold some of them"):
        world.ask("open", kind="train", recipe={"method": "nested-ffa"}, secure=True)
