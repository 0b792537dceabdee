"""Rounds of which the hub learns the sum alone: with everybody there, with boards that drop out, with kills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from console.errors import HubError, UsageError
from hub.making import versions
from hub.masking.opening import reasons
from hub.rounds.state import Round
from tests.faults import instants, survive
from tests.fuse import Fuse
from tests.hub.bundles import LABELS
from tests.hub.world import RANKS, World
from wire import discriminant
from wire.adamw import Hyperparameters
from wire.forward_gradients import job_board, job_key, rebuilt
from wire.kinds.head import Statistics, gather
from wire.kinds.lora import Lora
from wire.optimizers import Adam32

MakeWorld = Callable[..., World]
STAGES = ("keys", "shares", "masked", "agreed", "reveals")


def head_of(world: World) -> Any:
    """The newest head."""
    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    return versions.read_heads(made, world.hub.home.blobs)[0]


def pooled(world: World, names: tuple[str, ...] = tuple(RANKS)) -> Statistics:
    """Statistics of some boards' rows in one place."""
    boards = [world.devices[name] for name in names]
    return gather(
        np.concatenate([b.features for b in boards]), np.concatenate([b.classes for b in boards]), len(LABELS)
    )


def test_a_head_of_a_sum_is_that_of_single_sums(make_world: MakeWorld) -> None:
    """Under masks, a round of statistics makes the head of the pooled rows, within the rounding of fixed point."""
    world = make_world()

    found = world.run("statistics", secure=True, recipe={"head": "lda"})

    assert found["state"] == "complete"
    assert "the sum of 3 of 3 devices under masks" in found["sentence"]
    assert f"{sum(len(b.classes) for b in world.devices.values())} rows in all" in found["sentence"]
    np.testing.assert_allclose(head_of(world).weight, discriminant.solve(pooled(world)).weight, rtol=1e-5)
    assert world.hub.home.ledger.masks(1, "keys") == []
    assert [(u["samples"], u["metrics"]) for u in world.hub.home.ledger.updates(1)] == [(0, {})] * 3


@pytest.mark.parametrize("stage", STAGES)
def test_boards_may_drop_out_at_any_stage(make_world: MakeWorld, stage: str) -> None:
    """A board that falls silent before its masked update came is not in the sum; one that falls silent later is."""
    world = make_world()
    world.devices["coop"].masked.silent = set(STAGES[STAGES.index(stage) :])
    left = ("barn", "coop", "mill") if stage in ("agreed", "reveals") else ("barn", "mill")

    number = world.ask("open", kind="statistics", secure=True, threshold=2, deadline_s=40, recipe={"head": "lda"})[
        "round"
    ]
    world.settle()
    found = world.show(number)

    assert found["state"] == "complete", found["sentence"]
    np.testing.assert_allclose(head_of(world).weight, discriminant.solve(pooled(world, left)).weight, rtol=1e-5)
    assert {n for n, seat in found["per_device"].items() if seat["state"] == "arrived"} == set(left)
    if len(left) == 2:
        assert found["per_device"]["coop"]["reason"].endswith("did not come in time")
    assert ("taken off" in found["sentence"]) == (stage == "masked")


@pytest.mark.parametrize("stage", STAGES)
def test_too_few_boards_open_nothing(make_world: MakeWorld, stage: str) -> None:
    """With fewer boards than the threshold at any stage the round fails, says why, and forgets what was said."""
    world = make_world()
    for name in ("coop", "mill"):
        world.devices[name].masked.silent = set(STAGES[STAGES.index(stage) :])

    world.ask("open", kind="statistics", secure=True, threshold=2, deadline_s=40)
    world.settle()
    found = world.show(1)

    assert found["state"] == "failed"
    assert "of 1 of 3 devices came, 2 are needed for a sum under masks, so nothing was opened" in found["sentence"]
    assert len(world.hub.home.ledger.versions()) == 1
    assert all(world.hub.home.ledger.masks(1, s) == [] for s in STAGES)


def test_factors_of_a_sum_are_those_of_single_updates(make_world: MakeWorld) -> None:
    """Nested frozen-A under masks gives what it gives without: boards of three ranks, by rows, a head at its side."""
    worlds, found = (make_world(), make_world()), []
    for world, secure in zip(worlds, (True, False), strict=True):
        world.run("statistics")
        told = world.run("train", secure=secure, recipe={"method": "nested-ffa", "weights_cap": 0.0})
        assert told["state"] == "complete", told["sentence"]
        made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
        found.append(versions.read_ladder(made, world.hub.home.blobs))

    for slot, plain in found[1].items():
        assert np.array_equal(found[0][slot].a, plain.a)
        np.testing.assert_allclose(found[0][slot].b, plain.b, atol=1e-7)
        assert np.abs(plain.b).max() > 0.01
    rows = sum(len(d.classes) for d in worlds[0].devices.values())
    assert f"{rows} rows in all" in worlds[0].show(2)["sentence"]


def test_boards_may_all_count_alike(make_world: MakeWorld) -> None:
    """With uniform weights the mean of three boards is a third of each, where all have a direction."""
    world = make_world()
    world.run("statistics")
    before = versions.read_ladder(
        versions.read_made(world.hub.home.ledger.versions()[-1]).version, world.hub.home.blobs
    )

    world.run("train", secure=True, recipe={"method": "nested-ffa", "weights": "uniform"})

    after = versions.read_ladder(versions.read_made(world.hub.home.ledger.versions()[-1]).version, world.hub.home.blobs)
    for slot, start in before.items():
        trained = [
            d.train(slot, Lora(start.a, start.b, start.scale).prefix(RANKS[n])) for n, d in world.devices.items()
        ]
        mean = np.mean([w.b[:2].astype(np.float64) for w in trained], axis=0)
        np.testing.assert_allclose(after[slot].b[:2], mean, atol=1e-6)


@pytest.mark.parametrize("recipe", [{}, {"weights": "uniform", "method": "flexlora"}])
def test_derivatives_of_a_sum_make_the_step_of_the_mean(make_world: MakeWorld, recipe: dict[str, Any]) -> None:
    """Boards of one rank that step once along shared directions: the version is the step along the mean derivative."""
    world = make_world()
    world.run("statistics")
    made = versions.read_made(world.hub.home.ledger.versions()[-1])
    before = versions.read_ladder(made.version, world.hub.home.blobs)

    told = {"trainer": "spry", "steps": 1, "directions": 4, "learning_rate": 0.05}
    found = world.run("train", secure=True, settings=told, recipe=recipe)

    assert found["state"] == "complete", found["sentence"]
    assert (found["settings"]["rank"], found["settings"]["shared"]) == (2, "r2")  # the smallest of all boards
    jobs = {name: d.seen[f"r2-train-{name}"] for name, d in world.devices.items()}
    own = np.array([[s for _, s in d.steps(jobs[name]).pairs] for name, d in world.devices.items()])
    rows = [len(d.classes) if not recipe else 1 for d in world.devices.values()]
    mean = np.average(own, axis=0, weights=rows).astype(np.float32)
    rates = Hyperparameters(0.05, 0.9, 0.99, weight_decay=0.0)
    began, steps = {slot: w.prefix(2) for slot, w in before.items()}, [list(enumerate(map(float, mean)))]
    wanted = rebuilt(began, steps, job_key("tiny", made.digest), job_board("r2"), Adam32(rates))
    after = versions.read_ladder(versions.read_made(world.hub.home.ledger.versions()[-1]).version, world.hub.home.blobs)
    for slot, lora in wanted.items():
        rest = before[slot].product() - before[slot].prefix(2).product()
        np.testing.assert_allclose(after[slot].product(), lora.product() + rest, atol=1e-4)
        assert not np.allclose(lora.product(), before[slot].prefix(2).product(), atol=1e-3)


def test_nothing_that_the_hub_keeps_tells_single_updates(make_world: MakeWorld) -> None:
    """While a round waits for its last answers, neither ledger nor blobs hold bytes of any board's own numbers."""
    world = make_world()
    world.run("statistics")
    for device in world.devices.values():
        device.masked.silent = {"reveals"}
    world.ask("open", kind="train", secure=True, recipe={"method": "nested-ffa"})
    for _ in range(8):
        world.network.pump()
        world.hub.tick()
    assert world.show(2)["sentence"] == "under masks: shares of others of 3 devices to come"
    assert world.hub.home.ledger.round(2).secure.stage == "reveals"  # type: ignore[union-attr]  # it is open

    kept = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    for name, device in world.devices.items():
        job = f"r2-train-{name}"
        base = device.versions[device.seen[job].versions[0]]
        assert len(device.masked.secrets) == 3
        assert not any(secret in kept for secret in device.masked.secrets)
        trained = device.trained(device.seen[job], base).lora
        learned = [w.b.ravel() for w in trained.values()] + [w.b.astype(np.float64).ravel() for w in trained.values()]
        found: list[Any] = [device.masked.words[job], device.masked.vectors[job], *learned]
        for numbers in found:
            values = numbers[1:]
            pieces = [values[at : at + 3] for at in range(0, len(values) - 3, 3)]
            assert not any(piece.all() and len(set(piece)) > 1 and piece.tobytes() in kept for piece in pieces)


def test_a_masked_update_says_nothing_by_itself(make_world: MakeWorld) -> None:
    """What a board with all zeros sends is spread evenly over all bytes (chi-square)."""
    from scipy import stats

    world = make_world()
    world.run("statistics", secure=True)
    rows = world.hub.home.ledger.updates(1)
    data = b"".join(world.hub.home.blobs.get(row["digest"]) for row in rows)
    assert stats.chisquare(np.bincount(np.frombuffer(data, np.uint8), minlength=256)).pvalue > 1e-6
    plain = b"".join(next(iter(d.masked.words.values())).tobytes() for d in world.devices.values())
    assert stats.chisquare(np.bincount(np.frombuffer(plain, np.uint8), minlength=256)).pvalue < 1e-6


@pytest.mark.parametrize(
    ("kind", "told", "why"),
    [
        ("train", {}, "method stacking is not a sum"),
        ("train", {"recipe": {"method": "nested-ffa", "robust": "cosine"}}, "cosine looks at single updates"),
        ("train", {"recipe": {"method": "nested-ffa", "weights": "risk"}}, "each board's loss"),
        ("train", {"recipe": {"method": "nested-ffa", "thin": "fp16"}}, "made smaller one by one"),
        ("train", {"recipe": {"method": "nested-ffa"}, "gate": True}, "gate compares scores board by board"),
        ("train", {"recipe": {"method": "nested-ffa"}, "laps": 2}, "masks of its own"),
        ("train", {"recipe": {"method": "nested-ffa"}, "mode": "buffered"}, "leave out --over and --mode buffered"),
        ("train", {"recipe": {"method": "nested-ffa"}, "settings": {"head": True}}, "declared rows of each class"),
        ("train", {"recipe": {"method": "nested-ffa"}, "then": "statistics"}, "follow by itself"),
        ("train", {"settings": {"trainer": "spry"}}, "add --steps 1"),
        ("statistics", {"threshold": 1}, "threshold above half of the 3 boards"),
        ("evaluate", {"versions": ["1"]}, "scores are looked at board by board"),
    ],
)
def test_what_looks_at_single_updates_is_refused(make_world: MakeWorld, kind: str, told: Any, why: str) -> None:
    """Each thing that needs more than the sum is named when the round is asked for, and none is opened."""
    world = make_world()
    world.run("statistics")
    with pytest.raises(UsageError, match=why):
        world.ask("open", kind=kind, secure=True, **told)
    assert world.hub.home.ledger.last_round() == 1


def test_a_setting_that_masks_do_not_know_is_refused(make_world: MakeWorld) -> None:
    """Whatever a job of training may ask for one day, a sum under masks has it only after somebody thought of it."""
    world = make_world()
    state = replace(round_of(world), settings={"steps": 1, "smaller": "int8"})
    assert reasons(state) == ["its jobs ask for smaller, of which sums under masks know nothing"]


def round_of(world: World) -> Round:
    """A round of training that could be under masks."""
    world.run("statistics")
    world.ask("open", kind="train", recipe={"method": "nested-ffa"})
    state = world.hub.home.ledger.round(2)
    assert state is not None
    return state


def test_boards_that_do_not_know_masks_are_not_asked(make_world: MakeWorld) -> None:
    """An agent of before would send its update as it is, so a round with it is refused; so is one of two boards."""
    world = make_world()
    world.devices["mill"].jobs = ("train", "statistics", "evaluate")
    world.devices["mill"].hello()
    world.network.pump()
    with pytest.raises(HubError, match="found that mill said nothing of it"):
        world.ask("open", kind="statistics", secure=True, devices=sorted(RANKS))
    with pytest.raises(HubError, match="expected 3 to 500 boards"):
        world.ask("open", kind="statistics", secure=True, devices=["barn", "coop"])


def story(world: World) -> None:
    """Two rounds under masks, one board of which drops out, each opened unless it is in the ledger."""
    world.devices["coop"].masked.silent = {"masked", "agreed", "reveals"}
    rounds: list[dict[str, Any]] = [{"kind": "statistics"}, {"kind": "train", "recipe": {"method": "nested-ffa"}}]
    for number, told in enumerate(rounds, 1):
        if world.hub.home.ledger.last_round() < number:
            world.ask("open", secure=True, threshold=2, deadline_s=60, devices=sorted(RANKS), **told)
        world.settle()


@pytest.mark.parametrize(
    ("first", "step"), [(3, 41), pytest.param(1, 3, marks=pytest.mark.heavy)], ids=["some instants", "every third"]
)
def test_a_kill_at_any_instant_changes_nothing(make_world: MakeWorld, first: int, step: int) -> None:
    """Killed before and after each of its writes in turn, a hub opens the same sums, and drops what opened them."""
    calm = make_world()
    survive(calm, None, story)
    wanted = head_of(calm)

    for instant in instants(first, step):
        world = make_world()
        kills = survive(world, Fuse(instant), story)
        assert [r.phase for r in world.hub.home.ledger.rounds()] == ["complete"] * 2, f"after a kill at {instant}"
        assert [r.secure.survivors for r in world.hub.home.ledger.rounds() if r.secure] == [("barn", "mill")] * 2
        np.testing.assert_array_equal(head_of(world).weight, wanted.weight)
        assert all(world.hub.home.ledger.masks(n, s) == [] for n in (1, 2) for s in STAGES)
        if kills == 0:
            break
    assert instant > 30


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network_changes_nothing_but_the_time(make_world: MakeWorld, seed: int) -> None:
    """With a fifth of all deliveries lost, a fifth twice and half out of order, the head is the same."""
    calm, wild = make_world(), make_world(seed=seed, lose=0.2, repeat=0.2, reorder=0.5)
    for world in (calm, wild):
        for device in list(world.devices.values()) * 4:
            device.hello()
            world.network.pump()
        world.ask("open", kind="statistics", secure=True, devices=sorted(RANKS))
        world.settle(200)
    assert wild.show(1)["state"] == "complete", wild.show(1)["sentence"]
    np.testing.assert_array_equal(head_of(wild).weight, head_of(calm).weight)
