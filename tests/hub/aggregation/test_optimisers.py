"""Server optimisers against their papers, written down with whole matrices; and what is remembered between rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from console.errors import UsageError
from hub.aggregation.optimisers.optimiser import Settings, State
from hub.aggregation.optimisers.optimisers import OPTIMISERS
from hub.aggregation.products import Change
from hub.making import making, remembering, versions
from hub.making.optimising import rate_of
from hub.making.recipe import Recipe, chosen
from tests.faults import set_fire
from tests.fuse import Fuse, Killed
from tests.hub.world import RANKS, World
from wire.kinds.lora import Lora

Array = NDArray[np.float64]
MakeWorld = Callable[..., World]
RATE, BETA1, BETA2 = 0.3, 0.8, 0.95


def changes(rounds: int, shape: tuple[int, int] = (9, 7)) -> list[Change]:
    """Changes of rank 2."""
    g = np.random.default_rng(0)
    return [Change(g.standard_normal((shape[0], 2)), g.standard_normal((2, shape[1]))) for _ in range(rounds)]


def run(name: str, some: list[Change], rank: int = 32) -> Array:
    """What an optimiser makes of a slot that begins at nothing, after some rounds."""
    whole: Array = np.zeros((some[0].left.shape[0], some[0].right.shape[1]))
    state: State = {}
    for change in some:
        sent = Change(whole, np.eye(whole.shape[1]))
        made, state = OPTIMISERS[name].step(sent, change, state, Settings(RATE, BETA1, BETA2, rank))
        whole = made.left @ made.right if isinstance(made, Change) else made
    return whole


def plain(deltas: list[Array]) -> Array:
    """Reddi et al., algorithm 1 with a server that takes plain steps."""
    return np.asarray(RATE * sum(deltas))


def momentum(deltas: list[Array]) -> Array:
    """Hsu et al., section 4.2."""
    w, v = np.zeros_like(deltas[0]), np.zeros_like(deltas[0])
    for d in deltas:
        v = BETA1 * v + d
        w = w + RATE * v
    return w


def adaptive(deltas: list[Array], yogi: bool) -> Array:
    """Reddi et al., algorithm 2, number by number; eta = rate tau."""
    w = np.zeros_like(deltas[0])
    tau = np.sqrt(np.mean(deltas[0] ** 2))
    for index in np.ndindex(w.shape):
        m, v, x = 0.0, tau**2, 0.0
        for d in deltas:
            m = BETA1 * m + (1 - BETA1) * d[index]
            square = d[index] ** 2
            v = v - (1 - BETA2) * square * np.sign(v - square) if yogi else BETA2 * v + (1 - BETA2) * square
            x += RATE * tau * m / (np.sqrt(v) + tau)
        w[index] = x
    return w


def lamb(deltas: list[Array]) -> Array:
    """You et al., algorithm 2, with the moments of Reddi et al.; |W| is at least the length of the first change."""
    w, m = np.zeros_like(deltas[0]), np.zeros_like(deltas[0])
    tau = np.sqrt(np.mean(deltas[0] ** 2))
    v = np.full_like(w, tau**2)
    for d in deltas:
        m = BETA1 * m + (1 - BETA1) * d
        v = BETA2 * v + (1 - BETA2) * d**2
        u = m / (np.sqrt(v) + tau)
        w = w + RATE * max(np.linalg.norm(w), np.linalg.norm(deltas[0])) / np.linalg.norm(u) * u
    return w


PAPERS: dict[str, Callable[[list[Array]], Array]] = {
    "plain": plain,
    "momentum": momentum,
    "adam": lambda deltas: adaptive(deltas, yogi=False),
    "yogi": lambda deltas: adaptive(deltas, yogi=True),
    "lamb": lamb,
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_is_its_paper(name: str) -> None:
    """Five rounds give what the algorithm gives that is written down from the paper with whole matrices."""
    some = changes(5)

    found = run(name, some)

    np.testing.assert_allclose(found, PAPERS[name]([c.left @ c.right for c in some]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "yogi", "lamb"])
def test_the_size_of_changes_does_not_matter(name: str) -> None:
    """Changes a thousand times smaller give steps a thousand times smaller: no setting has their unit."""
    some = changes(4)
    small = [Change(c.left / 1000, c.right) for c in some]

    np.testing.assert_allclose(1000 * run(name, small), run(name, some), rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_factors_are_not_looked_at(name: str) -> None:
    """Other factors of the same change, (L G, G^-1 R), give the same matrix."""
    g, some = np.random.default_rng(1), changes(4)
    gauged = []
    for c in some:
        gauge = g.standard_normal((2, 2)) + 3 * np.eye(2)
        gauged.append(Change(c.left @ gauge, np.asarray(np.linalg.solve(gauge, c.right), np.float64)))

    np.testing.assert_allclose(run(name, gauged), run(name, some), rtol=1e-9, atol=1e-11)


def test_the_memory_of_momentum_is_factored() -> None:
    """Of the sum of changes the best directions are kept, as many as are asked for, and no whole matrix."""
    state: State = {}
    for change in changes(6, (40, 30)):
        _, state = OPTIMISERS["momentum"].step(change, change, state, Settings(RATE, BETA1, BETA2, 5))

    assert state["left"].shape == (40, 5)
    assert state["right"].shape == (5, 30)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_nothing_changed_nothing_moves(name: str) -> None:
    """A slot that never changed stays as it is, and no number becomes infinite or NaN."""
    nothing = Change(np.zeros((9, 2)), np.zeros((2, 7)))

    np.testing.assert_array_equal(run(name, [nothing, nothing]), np.zeros((9, 7)))
    assert np.isfinite(run(name, [nothing, *changes(2)])).all()


def test_the_rate_grows_by_the_root_of_the_cohort() -> None:
    """Four times the boards that a rate is meant for double it; without a cohort it stays; unsaid it is the usual."""
    assert rate_of(Recipe(server_rate=0.25, server_cohort=5), 20) == pytest.approx(0.5)
    assert rate_of(Recipe(server_rate=0.25), 20) == 0.25
    assert rate_of(Recipe(optimiser="momentum"), 20) == OPTIMISERS["momentum"].usual_rate
    assert Recipe().takes_the_mean
    assert not Recipe(server_cohort=3).takes_the_mean
    assert not Recipe(server_rate=0.5).takes_the_mean


def test_an_unknown_optimiser_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(UsageError, match="expected a server optimiser among plain, momentum, adam, yogi, lamb, found"):
        chosen(Recipe(), {"optimiser": "sgd"})


def made(world: World, number: int = -1) -> versions.Made:
    """A version of a world."""
    return versions.read_made(world.hub.home.ledger.versions()[number])


def ladder(world: World, number: int = -1) -> dict[str, Lora]:
    """Its ladder."""
    return versions.read_ladder(made(world, number).version, world.hub.home.blobs)


def steady(world: World) -> World:
    """A world whose boards always learn the same change of the first direction."""
    for device in world.devices.values():
        device.train = lambda slot, start: Lora(
            start.a, np.concatenate([start.b[:1] + np.float32(0.5), start.b[1:]]), start.scale
        )
    return world


def step(world: World, number: int) -> float:
    """How far a version is from the one before it, over all slots."""
    after, before = ladder(world, number), ladder(world, number - 1)
    return float(np.sqrt(sum(np.sum((after[n].product() - before[n].product()) ** 2) for n in after)))


def test_momentum_goes_on_between_rounds(make_world: MakeWorld) -> None:
    """In each round boards learn the same, and the version moves by more and more of it; the memory is in no topic."""
    world = steady(make_world())
    world.run("train")

    for _ in range(2):
        world.run("train", recipe={"optimiser": "momentum", "server_rate": 1.0, "server_beta1": 0.5})

    assert step(world, 2) == pytest.approx(
        step(world, 1), rel=0.3
    )  # what boards learn depends a little on where they begin
    assert step(world, 3) == pytest.approx(1.5 * step(world, 2), rel=0.2)
    version = made(world).version
    assert version.optimiser
    assert version.optimiser not in versions.blob_names(version)
    assert not made(world, 1).version.optimiser


@pytest.mark.parametrize("name", ["momentum", "adam", "yogi", "lamb"])
def test_the_same_journal_gives_the_same_version_and_memory(make_world: MakeWorld, name: str) -> None:
    """A hub that was killed and makes a version again makes the same bytes and the same memory, all of it blobs."""
    world = steady(make_world())
    world.run("train", recipe={"optimiser": name})
    number = world.run("train", recipe={"optimiser": name})["round"]
    home, model = world.hub.home, world.hub.desk().model
    state = home.ledger.round(number)
    assert state is not None

    one, other = (making.make(home, model, 16, replace(state, lap=0, version="")) for _ in range(2))

    assert one.digest == other.digest
    assert one.version.optimiser == made(world).version.optimiser
    assert one.version.optimiser != made(world, 1).version.optimiser
    assert set(remembering.slots_of(home.blobs, one.version.optimiser, name)) == {"layer.0.query", "layer.1.value"}


def test_statistics_carry_the_memory_on(make_world: MakeWorld) -> None:
    """A new head between two rounds of training does not make the optimiser forget."""
    world = steady(make_world())
    world.run("train", recipe={"optimiser": "momentum"})
    before = made(world).version.optimiser

    world.run("statistics")

    assert made(world).version.optimiser == before != ""
    world.run("train", recipe={"optimiser": "momentum"})
    assert made(world).version.optimiser not in ("", before)


def test_another_optimiser_starts_fresh(make_world: MakeWorld) -> None:
    """Yogi after Adam begins with this round's change alone, though both remember the same things; plain forgets."""
    world = steady(make_world())
    for _ in range(2):
        world.run("train", recipe={"optimiser": "adam"})

    world.run("train", recipe={"optimiser": "yogi"})

    blobs, version = world.hub.home.blobs, made(world).version
    assert remembering.slots_of(blobs, version.optimiser, "adam") == {}
    for blob in remembering.slots_of(blobs, version.optimiser, "yogi").values():
        state = remembering.read_slot(blobs, blob)
        assert np.sqrt(np.mean((state["m"] / 0.1) ** 2)) == pytest.approx(float(state["tau"]), rel=1e-5)
    world.run("train", recipe={"optimiser": "plain"})
    assert made(world).version.optimiser == ""


def test_a_refused_version_takes_its_memory_with_it(make_world: MakeWorld) -> None:
    """After the gate refused a version, the next round makes of the same updates what it would have made without."""
    world = steady(make_world())
    world.run("train", recipe={"optimiser": "momentum"})
    world.run("statistics")
    kept = made(world)
    for device in world.devices.values():
        device.mislabel = True
    refused = world.run("statistics", recipe={"optimiser": "momentum"})
    assert not refused["released"]
    assert world.hub.home.ledger.tip("tiny") == kept.digest
    for device in world.devices.values():
        device.mislabel = False

    world.run("train", recipe={"optimiser": "momentum"})

    assert made(world).version.parent == kept.digest
    straight = steady(make_world())
    straight.run("train", recipe={"optimiser": "momentum"})
    straight.run("statistics")
    straight.run("train", recipe={"optimiser": "momentum"})
    assert made(world).version.optimiser == made(straight).version.optimiser


def test_a_median_may_have_momentum(make_world: MakeWorld) -> None:
    """What a rule by numbers makes goes through the server optimiser like any mean."""
    world = steady(make_world())
    for _ in range(2):
        found = world.run("train", recipe={"robust": "median", "optimiser": "momentum", "server_rate": 1.0})
        assert found["state"] == "complete"

    assert step(world, 2) == pytest.approx(1.9 * step(world, 1), rel=0.2)


def momentum_twice(world: World, fuse: Fuse | None) -> int:
    """Two rounds of training with momentum; a kill is followed by a new hub on the same folder. Returns the kills."""
    kills = 0
    if fuse is not None:
        set_fire(world.hub, fuse)
    for number in (1, 2):
        while True:
            try:
                if world.hub.home.ledger.last_round() < number:
                    world.ask("open", kind="train", devices=sorted(RANKS), recipe={"optimiser": "momentum"})
                world.settle()
                break
            except Killed:
                kills += 1
                world.hub = world.start_hub()
    return kills


@pytest.mark.parametrize(
    ("first", "step"), [(9, 17), pytest.param(2, 4, marks=pytest.mark.heavy)], ids=["some instants", "every fourth"]
)
def test_a_kill_at_any_instant_changes_no_memory(make_world: MakeWorld, first: int, step: int) -> None:
    """Killed before and after each of its writes in turn, a hub ends with the versions of one that never was."""
    calm = steady(make_world())
    momentum_twice(calm, None)

    for instant in count(first, step):
        world = steady(make_world())
        kills = momentum_twice(world, Fuse(instant))
        for number in (1, 2):
            assert made(world, number).digest == made(calm, number).digest, f"after a kill at instant {instant}"
        assert remembering.blob_names(world.hub.home.blobs, made(world).version.optimiser)
        if kills == 0:
            break
    assert instant > 30  # so many writes there are
