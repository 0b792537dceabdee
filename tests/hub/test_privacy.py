"""Private rounds: clipped, noised once, accounted for, and refused where nothing could be promised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import comb, logsumexp
from scipy.stats import kstest, norm

from console.errors import HubError, UsageError
from hub.aggregation.products import Change, inner
from hub.aggregation.products import norm as length_of
from hub.making import versions
from hub.privacy.accountant import epsilon
from hub.privacy.clipping import clipped, length
from hub.privacy.noise import noise_of
from hub.privacy.promise import held
from hub.privacy.sampling import drawn
from hub.privacy.settings import PrivacyConfig, Private
from hub.store.writes import put
from tests.faults import instants, set_fire
from tests.fuse import Fuse, Killed
from tests.hub.privacy_world import promise
from tests.hub.test_kinds import SIZES, with_biases
from tests.hub.test_recovery import digests
from tests.hub.world import RANKS, World
from wire.adapter import Adapter
from wire.kinds.lora import Lora

MakeWorld = Callable[..., World]
DELTA = 1e-5


# ---------------------------------------------------------------------------------------------- what is spent


def spent(sampling: Any, rounds: int, noise: float, population: int = 100, divisor: float = 100) -> float:
    """Epsilon of some equal rounds."""
    return epsilon([Private(noise, 1.0, DELTA, sampling, population, divisor)] * rounds, DELTA)


def by_hand(rdp: Callable[[float], float]) -> float:
    """The least epsilon over orders (Canonne, Kamath, Steinke, arXiv 2004.00010, proposition 12)."""

    def bound(order: float) -> float:
        return rdp(order) + math.log1p(-1 / order) - (math.log(DELTA) + math.log(order)) / (order - 1)

    return float(minimize_scalar(bound, bounds=(1.01, 200), method="bounded").fun)


@pytest.mark.parametrize("rounds", [1, 10, 40])
@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_full_participation_is_the_gaussian_mechanism(rounds: int, noise: float) -> None:
    """T rounds of all boards spend what T alpha / 2 z^2 gives by hand, and never less than the exact curve."""
    found = spent("all", rounds, noise)

    assert found == pytest.approx(by_hand(lambda a: rounds * a / (2 * noise**2)), rel=0.01)
    mu = math.sqrt(rounds) / noise  # the exact curve: Balle and Wang, arXiv 1805.06530, theorem 8
    assert norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu) <= DELTA


def test_poisson_sampling_spends_what_its_formula_says() -> None:
    """At whole orders the sampled Gaussian's moments are a finite sum; the least over them is what is spent."""
    q, noise, rounds = 0.1, 1.0, 20

    def rdp(order: int) -> float:  # Mironov, Talwar, Zhang, arXiv 1908.10530, section 3.3
        k = np.arange(order + 1)
        terms = np.log(comb(order, k)) + (order - k) * np.log1p(-q) + k * np.log(q) + k * (k - 1) / (2 * noise**2)
        return float(rounds * logsumexp(terms) / (order - 1))

    orders = range(2, 64)
    wanted = min(rdp(a) + math.log1p(-1 / a) - (math.log(DELTA) + math.log(a)) / (a - 1) for a in orders)
    assert spent("poisson", rounds, noise, 1000, 100) == pytest.approx(wanted, rel=0.02)
    assert spent("poisson", rounds, noise, 1000, 100) < spent("all", rounds, noise) / 4


def test_exchanging_a_board_moves_the_sum_twice_as_far() -> None:
    """A sample of fixed size that is everybody spends what half the noise would, between neighbours that differ."""
    assert spent("fixed", 3, 2.0, 10, 10) == pytest.approx(spent("all", 3, 1.0), rel=1e-6)
    assert spent("fixed", 3, 2.0, 1000, 10) < spent("fixed", 3, 2.0, 10, 10)


def test_the_chance_of_an_empty_draw_is_paid_for() -> None:
    """Poisson samples that could be empty take their probability off delta, and where that is more, promise nothing."""
    assert spent("poisson", 1, 1.0, 3, 1.5) == math.inf
    assert spent("poisson", 1, 1.0, 40, 20.0) > 0


# ---------------------------------------------------------------------------------------------- clipping and noise


def lora(seed: int, rank: int, rows: int = 7, columns: int = 5) -> Lora:
    """Random factors."""
    g = np.random.default_rng(seed)
    return Lora(
        g.standard_normal((rows, rank)).astype(np.float32), g.standard_normal((rank, columns)).astype(np.float32), 2.0
    )


@given(seed=st.integers(0, 999), rank=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_boards_length_is_that_of_its_dense_change(seed: int, rank: int) -> None:
    """Over slots and biases together, with whatever basis the factors are written in."""
    sent = {"a": lora(seed, 4), "b": lora(seed + 1, 4)}
    made = {"a": lora(seed + 2, rank), "b": lora(seed + 3, rank)}
    basis = np.random.default_rng(seed).standard_normal((rank, rank)) + 3 * np.eye(rank)
    turned = {
        n: Lora((w.a @ basis).astype(np.float32), np.linalg.solve(basis, w.b).astype(np.float32), w.scale)
        for n, w in made.items()
    }
    delta, before = np.arange(5, dtype=np.float32), {"a": np.ones(5, np.float32)}

    found = length(Adapter("m", lora=made, bias={"a": delta}), sent, before)

    dense = [made[n].product() - sent[n].prefix(rank).product() for n in sent]
    assert found == pytest.approx(math.sqrt(sum(np.sum(d * d) for d in dense) + np.sum((delta - 1) ** 2)), rel=1e-9)
    assert length(Adapter("m", lora=turned, bias={"a": delta}), sent, before) == pytest.approx(found, rel=1e-3)


@given(seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_inner_products_are_those_of_the_products(seed: int) -> None:
    """Norms and inner products never form the matrix and are those of the matrix."""
    g = np.random.default_rng(seed)
    one, other = (Change(g.standard_normal((6, r)), g.standard_normal((r, 9))) for r in (2, 3))
    dense, second = one.left @ one.right, other.left @ other.right

    assert inner(one, other) == pytest.approx(float(np.sum(dense * second)), rel=1e-9, abs=1e-9)
    assert length_of(one) == pytest.approx(float(np.linalg.norm(dense)), rel=1e-12)


@given(lengths=st.lists(st.floats(0, 1e6), min_size=1, max_size=8), clip=st.floats(1e-3, 1e3))
def test_no_board_moves_the_mean_further_than_its_share(lengths: list[float], clip: float) -> None:
    """Share times length is at most clip / n for every board, and a board within the clip keeps its whole share."""
    shares = clipped(lengths, clip, 4.0).values

    assert all(s * found <= clip / 4.0 for s, found in zip(shares, lengths, strict=True))
    assert all(s == 0.25 for s, found in zip(shares, lengths, strict=True) if found < clip * (1 - 1e-6))


def test_noise_is_normal_and_no_two_releases_share_it() -> None:
    """Numbers pass a Kolmogorov-Smirnov test; another slot, another secret or other updates give other numbers."""
    noise = noise_of("ab" * 32, ["u1", "u2"], 3.0)
    drawn_numbers = noise.normal("slot a", (200, 101)).ravel()

    assert kstest(drawn_numbers / 3.0, "norm").pvalue > 0.01
    assert np.array_equal(noise.normal("slot a", (200, 101)).ravel(), drawn_numbers)
    others = [
        noise.normal("slot b", (200, 101)),
        noise_of("ac" * 32, ["u1", "u2"], 3.0).normal("slot a", (200, 101)),
        noise_of("ab" * 32, ["u1", "u3"], 3.0).normal("slot a", (200, 101)),
    ]
    assert all(abs(np.corrcoef(drawn_numbers, other.ravel())[0, 1]) < 0.05 for other in others)


def test_samples_are_drawn_as_they_are_accounted_for() -> None:
    """Fixed samples have their size, Poisson samples a size that varies; the divisor is the same whatever is drawn."""
    boards = [f"b{i}" for i in range(60)]
    fixed = [drawn(boards, PrivacyConfig(1.0, sampling="fixed", rate=0.25)) for _ in range(20)]
    poisson = [drawn(boards, PrivacyConfig(1.0, sampling="poisson", rate=0.5)) for _ in range(20)]

    assert {(len(names), n) for names, n in fixed} == {(15, 15.0)}
    assert {n for _, n in poisson} == {30.0}
    assert len({len(names) for names, _ in poisson}) > 1
    assert len({tuple(names) for names, _ in fixed}) > 1
    with pytest.raises(HubError, match="expected a draw that hardly ever chooses nobody"):
        drawn(boards[:3], PrivacyConfig(1.0, sampling="poisson", rate=0.5))


# ---------------------------------------------------------------------------------------------- rounds


def last(world: World) -> versions.Made:
    """The newest version."""
    return versions.read_made(world.hub.home.ledger.versions()[-1])


def ladders(world: World) -> list[dict[str, np.ndarray]]:
    """The products of all versions."""
    home = world.hub.home
    made = [versions.read_made(row).version for row in home.ledger.versions()]
    return [{n: w.product() for n, w in versions.read_ladder(v, home.blobs).items()} for v in made]


def test_a_round_is_the_mean_of_clipped_changes_with_noise(make_world: MakeWorld) -> None:
    """Almost without noise a version is what numpy makes of clipped changes; with noise it lies as far off as said."""
    quiet, loud = (promise(make_world(), noise=noise) for noise in (1e-7, 0.3))
    quiet.run("train")
    loud.run("train")

    sent = versions.read_ladder(versions.read_made(quiet.hub.home.ledger.versions()[0]).version, quiet.hub.home.blobs)
    moved = {
        name: {slot: d.train(slot, w.prefix(RANKS[name])).product() for slot, w in sent.items()}
        for name, d in quiet.devices.items()
    }
    lengths = {n: math.sqrt(sum(float(np.sum(p * p)) for p in m.values())) for n, m in moved.items()}
    assert min(lengths.values()) > 0.5  # version 0 carries nothing: the change is all there is
    before, after = ladders(quiet)
    for slot in sent:
        wanted = before[slot] + sum(m[slot] * 0.5 / lengths[n] for n, m in moved.items()) / 3
        np.testing.assert_allclose(after[slot], wanted, atol=1e-5)
    off = np.concatenate([(ladders(loud)[1][slot] - after[slot]).ravel() for slot in sent])
    assert float(np.std(off)) == pytest.approx(0.3 * 0.5 / 3, rel=0.3)


@pytest.mark.parametrize("method", ["ffa", "nested-ffa"])
def test_frozen_a_has_its_noise_on_b(make_world: MakeWorld, method: str) -> None:
    """A is what was sent, to the bit; B is the mean of clipped changes of B with noise on each of its numbers."""
    worlds = [promise(make_world(), noise=noise, clip=0.4) for noise in (1e-7, 0.3)]
    boards = ["barn"] if method == "ffa" else list(RANKS)  # ffa takes boards of one rank
    for world in worlds:
        found = world.run("train", recipe={"method": method}, devices=boards)
        assert found["state"] == "complete", found["sentence"]
    quiet, loud = ([versions.read_made(r).version for r in w.hub.home.ledger.versions()] for w in worlds)
    sent, made, noised = (
        versions.read_ladder(v, w.hub.home.blobs)
        for v, w in ((quiet[0], worlds[0]), (quiet[1], worlds[0]), (loud[1], worlds[1]))
    )
    off = []
    lengths = {}
    moved = {n: {s: worlds[0].devices[n].train(s, w.prefix(RANKS[n])) for s, w in sent.items()} for n in boards}
    for name in boards:
        lengths[name] = math.sqrt(sum(float(np.sum((2.0 * w.b) ** 2)) for w in moved[name].values()))
    for slot, whole in sent.items():
        assert made[slot].a.tobytes() == whole.a.tobytes()
        wanted = whole.b.astype(np.float64).copy()
        for name in boards:
            wanted[: RANKS[name]] += moved[name][slot].b * min(1, 0.4 / lengths[name]) / len(boards)
        np.testing.assert_allclose(made[slot].b, wanted, atol=1e-5)
        off.append((noised[slot].b - made[slot].b).ravel())
    assert float(np.std(np.concatenate(off))) == pytest.approx(0.3 * 0.4 / len(boards) / 2.0, rel=0.25)


def test_biases_are_clipped_and_noised_too(make_world: MakeWorld) -> None:
    """A private round of biases adds noise to every bias that the model has, brought or not."""
    world = promise(with_biases(make_world), noise=0.1, clip=100.0)
    world.run("train", settings={"kinds": ["bias"]})

    found = versions.read_biases(last(world).version, world.hub.home.blobs)
    assert set(found) == set(SIZES)
    for name in SIZES:
        mean = sum(d.bias_moves.get(name, 0) for d in world.devices.values()) / 3
        off = found[name] - mean
        assert 0.1 < float(np.linalg.norm(off)) < 0.1 * 100 / 3 * 6
    assert last(world).version.rungs == versions.read_made(world.hub.home.ledger.versions()[0]).version.rungs


def test_what_is_spent_is_said(make_world: MakeWorld) -> None:
    """Every private round shows its own epsilon and the sum, and the status shows what all rounds spent."""
    world = promise(make_world(), noise=4.0, budget=10.0)
    first, second = world.run("train"), world.run("train")

    assert first["privacy"]["epsilon"] == first["privacy"]["spent"] == pytest.approx(spent("all", 1, 4.0))
    assert second["privacy"]["spent"] == pytest.approx(spent("all", 2, 4.0))
    assert f"{second['privacy']['spent']:.3g} spent in all" in second["sentence"]
    status = world.ask("status")["privacy"]
    assert status["epsilon"] == second["privacy"]["spent"]
    assert (status["rounds"], status["rounds_without_noise"], status["budget"]) == (2, 0, 10.0)


def test_a_round_that_made_nothing_spent_nothing(make_world: MakeWorld) -> None:
    """A private round without a quorum, or stopped, publishes nothing and is not counted."""
    world = promise(make_world())
    for device in world.devices.values():
        device.excuse = "no rows"
    world.run("train")
    for device in world.devices.values():
        device.excuse = ""

    found = world.run("train")

    assert world.ask("status")["privacy"]["rounds"] == 1
    assert found["privacy"]["spent"] == found["privacy"]["epsilon"]


def test_the_budget_stops_rounds(make_world: MakeWorld) -> None:
    """A round that would spend more than the budget is not opened, and the sentence says how much it would be."""
    world = promise(make_world(), noise=1.0, budget=6.0)
    world.run("train")
    with pytest.raises(
        HubError, match=r"privacy.budget = 6, found that this round would bring what is spent to epsilon"
    ):
        world.ask("open", kind="train")


def test_earlier_rounds_without_noise_are_named(make_world: MakeWorld) -> None:
    """Of versions that were made before anything was promised nothing is promised, and the status says how many."""
    world = make_world()
    world.run("statistics")
    world.run("train")
    promise(world).run("train")

    assert world.ask("status")["privacy"]["rounds_without_noise"] == 2


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "weights": ({"recipe": {"weights": "samples"}}, {}, "weights by what boards declare have no bound"),
    "optimiser": ({"recipe": {"optimiser": "momentum"}}, {}, "momentum may remember rounds that had no noise"),
    "server rate": ({"recipe": {"server_rate": 2.0}}, {}, "a server rate other than 1"),
    "method": ({"recipe": {"method": "flexlora"}}, {}, "the method flexlora is not linear in the changes"),
    "robust rule": ({"recipe": {"robust": "geometric-median"}}, {}, "weighs boards by what others sent"),
    "several versions": ({"laps": 3}, {}, "a round of several versions asks a board more than once"),
    "over-selection": ({"over": 0.5}, {}, "who answers first decides who is in it"),
    "a buffer": ({"mode": "buffered", "laps": 1}, {}, "who answers first decides who is in it"),
    "gate": ({"gate": True}, {}, "the gate decides by scores without noise"),
    "then": ({"then": "statistics"}, {}, "the statistics that are to follow are published without noise"),
    "head": ({"settings": {"head": True}}, {}, "a trained head is averaged by declared rows"),
    "statistics": ({"kind": "statistics"}, {}, "sums of a round of statistics are published without noise"),
    "named": ({"devices": ["barn"]}, {"sampling": "fixed", "rate": 0.5}, "are no draw (privacy.sampling is fixed)"),
    "selected": ({"select": "random:2"}, {"sampling": "fixed", "rate": 0.5}, "are no draw (privacy.sampling is fixed)"),
    "need": ({"select": "need:2"}, {}, "boards that are asked by need are asked by what they hold"),
}


@pytest.mark.parametrize(("request_made", "told", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_promised_is_refused(
    make_world: MakeWorld, request_made: dict[str, Any], told: dict[str, Any], words: str
) -> None:
    """Every combination whose guarantee does not hold is refused with its reason, before anybody is asked."""
    world = promise(make_world(), **told)
    with pytest.raises(UsageError) as caught:
        world.ask("open", **{"kind": "train", **request_made})

    assert words in str(caught.value)
    assert world.hub.home.ledger.last_round() == 0


def test_settings_of_the_hub_are_checked(make_world: MakeWorld) -> None:
    """A delta that allows to publish a whole board, and samplings that do not add up, are refused."""
    with pytest.raises(HubError, match="expected privacy.delta below 1 / 3"):
        promise(make_world(), delta=0.05 * 8).ask("open", kind="train")
    world = promise(make_world(), sampling="fixed", rate=0.67)
    world.run("train")
    promise(world, sampling="poisson", rate=0.999)
    with pytest.raises(HubError, match="as in earlier rounds"):
        world.ask("open", kind="train")


def test_a_sample_is_asked_and_nobody_else(make_world: MakeWorld) -> None:
    """With a fixed share the hub draws the boards itself; the mean is over the share's size."""
    world = promise(make_world(), sampling="fixed", rate=0.67)
    found = world.run("train")

    assert len(found["per_device"]) == 2
    assert (found["privacy"]["population"], found["privacy"]["divisor"]) == (3, 2.0)


def test_evaluations_stay_possible(make_world: MakeWorld) -> None:
    """Scores are for whoever runs the hub: a round of evaluation publishes nothing and is not private."""
    world = make_world()
    world.run("statistics")
    found = promise(world).run("evaluate")
    assert (found["state"], found["privacy"]) == ("complete", None)


def test_other_updates_get_other_noise(make_world: MakeWorld) -> None:
    """A hub that goes on from an old copy of its journal with other updates does not use the same noise again."""
    noises = []
    for excuse in ("", "no rows"):
        world = promise(make_world(), noise=50.0)
        ask_again = world.devices["mill"]
        ask_again.excuse = excuse
        home = world.hub.home
        number = world.ask("open", kind="train")["round"]
        with home.ledger.transaction() as tx:
            put(tx, f"noise/{number}", "cd" * 32)
        world.settle()
        noises.append(ladders(world)[1])
    slot = next(iter(noises[0]))
    # with the same noise they would differ by clipped changes alone, each at most 0.5 long
    assert float(np.linalg.norm(noises[0][slot] - noises[1][slot])) > 5.0


@pytest.mark.parametrize(
    ("first", "step"), [(1, 23), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some instants", "end to end"]
)
def test_a_kill_at_any_instant_draws_no_second_noise(make_world: MakeWorld, first: int, step: int) -> None:
    """Killed before and after each write in turn, a round publishes one version, with one secret, and spends once."""
    for instant in instants(first, step):
        world, kills = promise(make_world(), noise=2.0), 0
        told = world.hub.home.config
        set_fire(world.hub, Fuse(instant))
        seen: set[str] = set()
        while True:
            try:
                if not world.hub.home.ledger.last_round():
                    world.ask("open", kind="train", devices=sorted(RANKS))
                world.settle()
                break
            except Killed:
                kills += 1
                world.hub = world.start_hub()
                world.hub.home.config = replace(told)
                seen |= {world.hub.home.ledger.get("noise/1")} - {""}
        assert len(seen) <= 1, f"after a kill at instant {instant}"
        assert {world.hub.home.ledger.get("noise/1")} >= seen
        heard = set(digests(world))
        told_to = {v for d in world.devices.values() for v in d.versions}
        assert told_to <= heard, f"a version was published and lost after a kill at instant {instant}"
        assert len(digests(world)) == 2
        status = world.ask("status")["privacy"]
        assert (status["rounds"], status["epsilon"]) == (1, pytest.approx(spent("all", 1, 2.0)))
        if kills == 0:
            break
    assert instant > 15


def test_open_rounds_count_against_the_budget(make_world: MakeWorld) -> None:
    """What a round that is still open will spend is not to be spent by another one."""
    world = promise(make_world())
    for device in world.devices.values():
        device.jobs_held = True
    number = world.ask("open", kind="train")["round"]

    assert len(held(world.hub.home)) == 0
    assert len(held(world.hub.home, open_too=True)) == 1
    world.ask("stop", round=number)
    assert held(world.hub.home, open_too=True) == []
