"""What never changes is computed once: the same losses and gradients, fewer runs, nothing stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from edge import load
from edge.gradients import Gradients
from edge.jobs import Desk
from edge.runner import Runner
from edge.setup import prepare
from edge.trunk import Trunk, keep, trunk_of
from tests.edge.boards import make_board
from tests.edge.bundles import make_bundle, make_weights
from tests.edge.test_gradients import pictures, random_adapter, rows, runner
from wire.inputs import inputs_of

QUOTA = 1 << 20


def cached(folder: Path, *, exact: bool = True, quota: int = QUOTA, **bundle: Any) -> tuple[Runner, Trunk]:
    """A runner of three segments of which the last one learns, with a cache."""
    run = runner(folder, **{"segments": (1, 1, 1), "frozen": (0, 1), **bundle})
    return run, keep(run.chain, folder / "kept" / "trunk", quota, exact=exact)


def without(folder: Path) -> Runner:
    """The same bundle without a cache."""
    return load(folder / "bundle").runner


def apart(found: Gradients, expected: Gradients) -> float:
    """How far gradients are apart, relative to the largest of each."""
    assert found.by_input.keys() == expected.by_input.keys()
    return max(
        float(np.abs(found.by_input[n] - g).max() / np.abs(g).max()) for n, g in sorted(expected.by_input.items())
    )


@pytest.mark.parametrize(("exact", "bound"), [(True, 1e-6), (False, 5e-3)], ids=["float32", "float16"])
def test_losses_and_gradients_are_those_without_a_cache(tmp_path: Path, *, exact: bool, bound: float) -> None:
    """Made or found, a short last micro-batch included: in float32 the same, in float16 within its rounding."""
    run, trunk = cached(tmp_path, exact=exact)
    adapter, given = random_adapter(run.manifest), rows(5)
    expected = without(tmp_path).gradients(given, adapter)

    first, second = run.gradients(given, adapter), run.gradients(given, adapter)

    assert (trunk.kept().hits, trunk.kept().misses, trunk.kept().rows) == (5, 5, 5)
    assert apart(second, first) == 0
    assert first.loss == second.loss == pytest.approx(expected.loss, rel=bound)
    assert apart(first, expected) < bound
    assert exact or apart(first, expected) > 1e-6, "float16 was used"


def test_a_pass_that_finds_every_row_opens_no_session(tmp_path: Path) -> None:
    """The session above the trunk stays open from step to step, as that of a bundle of one segment does."""
    run, _ = cached(tmp_path)
    adapter, given = random_adapter(run.manifest), rows(4)
    run.gradients(given, adapter)
    before = dict(run.chain.sessions.open)

    run.gradients(given, adapter)

    assert before
    assert run.chain.sessions.open == before


def test_forward_passes_use_the_same_rows(tmp_path: Path) -> None:
    """What gradients have made, forward passes find, with an adapter and without, in any order."""
    run, trunk = cached(tmp_path)
    adapter, given = random_adapter(run.manifest), rows(6)
    plain = without(tmp_path)
    run.gradients(given, adapter)

    for one in (adapter, None):
        samples = [row.sample for row in reversed(given)]
        found, expected = run.forward(samples, one), plain.forward(samples, one)
        np.testing.assert_allclose(found.features, expected.features, atol=1e-6)
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)

    assert (trunk.kept().hits, trunk.kept().misses) == (12, 6)


def test_rows_outlive_the_process_and_its_order(tmp_path: Path) -> None:
    """Another runner finds all rows, whatever micro-batches they come in."""
    run, trunk = cached(tmp_path, exact=False)
    adapter, given = random_adapter(run.manifest), rows(6)
    run.gradients(given, adapter)
    trunk.close()

    again = without(tmp_path)
    found = keep(again.chain, tmp_path / "kept" / "trunk", QUOTA)
    again.gradients(given[::-2], adapter)

    assert (found.kept().hits, found.kept().misses, found.kept().rows) == (3, 0, 6)


def test_nothing_stale_is_found(tmp_path: Path) -> None:
    """Other weights under the same names, or float32 asked for instead of float16, begin anew."""
    run, trunk = cached(tmp_path, exact=False)
    adapter, given = random_adapter(run.manifest), rows(4)
    run.gradients(given, adapter)
    trunk.close()
    make_bundle(tmp_path / "other", segments=(1, 1, 1), frozen=(0, 1), weights=make_weights(3, seed=9))

    for exact in (False, True):
        other = load(tmp_path / "other").runner
        expected = other.gradients(given, adapter)
        found = keep(other.chain, tmp_path / "kept" / "trunk", QUOTA, exact=exact)
        got = other.gradients(given, adapter)
        found.close()
        assert (found.kept().hits, found.kept().misses) == (0, 4)
        assert apart(got, expected) < 5e-3


def test_what_is_fed_to_the_trunk_turns_the_cache_off(tmp_path: Path) -> None:
    """A pass that feeds an input of the trunk itself runs whole: its activations are not those of the cache."""
    run, trunk = cached(tmp_path)
    adapter, given = random_adapter(run.manifest), rows(2)
    ready = run.ready([row.sample for row in given])
    batch = ready.samples.take([0, 1])
    run.gradients(given, adapter)
    before = trunk.kept()

    run.chain.forward([{}], ready.bucket.name, {**inputs_of(run.manifest, adapter), **batch}, ["logits"])

    assert trunk.kept() == before


def test_values_beyond_float16_are_kept_in_float32(tmp_path: Path) -> None:
    """A boundary that float16 cannot hold is kept as it is, the report says so, and the rows are found again."""
    weights = make_weights(3)
    run = runner(tmp_path, segments=(1, 1, 1), frozen=(0, 1), weights=weights)
    path = tmp_path / "kept" / "trunk"
    trunk = keep(run.chain, path, QUOTA)
    values = [{"pixel_values": np.zeros((2, 1, 4, 4), np.float32)}]
    values[0]["pixel_values"][1] = 1
    large = np.array([[1.5, -3e38], [0.1, 2]] * 2, np.float32)[:, :1].repeat(5, axis=1)

    def made(batches: Any) -> list[dict[str, Any]]:
        return [
            {"cut1.0": large[:2] + np.float32(3e38) * batch["pixel_values"].reshape(2, -1)[:, :1]} for batch in batches
        ]

    first = trunk.enter(values, "train", {}, made)
    trunk.close()
    again = keep(without(tmp_path).chain, path, QUOTA)
    second = [{"pixel_values": values[0]["pixel_values"]}]

    assert first == again.enter(second, "train", {}, made) == 2
    np.testing.assert_array_equal(values[0]["cut1.0"], second[0]["cut1.0"])
    assert values[0]["cut1.0"].max() > 1e38
    assert again.kept().hits == 2
    assert any("beyond float16" in sentence for sentence in trunk.kept().said)


def test_infinite_masks_are_kept_in_float16(tmp_path: Path) -> None:
    """A boundary with minus infinity, as masks of decoders have it, is kept, in half the bytes, and found again."""
    run = cached(tmp_path, exact=False)
    trunk, batch = run[1], {"pixel_values": np.zeros((2, 1, 4, 4), np.float32)}
    batch["pixel_values"][1] = 1

    def made(batches: Any) -> list[dict[str, Any]]:
        masked = [np.where(b["pixel_values"].reshape(2, -1)[:, :5] > 0, np.float32(-np.inf), 0) for b in batches]
        return [{"cut1.0": one} for one in masked]

    values = [dict(batch), dict(batch)]
    assert trunk.enter(values[:1], "train", {}, made) == trunk.enter(values[1:], "train", {}, made) == 2
    np.testing.assert_array_equal(values[1]["cut1.0"], made([batch])[0]["cut1.0"])
    assert (trunk.kept().hits, trunk.kept().said) == (2, ())


def test_samples_that_know_of_each_other_are_not_kept(tmp_path: Path) -> None:
    """A boundary that mixes the rows of a micro-batch is found out by turning them, and every pass runs whole."""
    trunk = cached(tmp_path)[1]
    batch = {"pixel_values": np.random.default_rng(1).normal(size=(2, 1, 4, 4)).astype(np.float32)}

    def mixed(batches: Any) -> list[dict[str, Any]]:
        return [{"cut1.0": np.cumsum(b["pixel_values"].reshape(2, -1), axis=0)[:, :5]} for b in batches]

    assert trunk.enter([dict(batch)], "train", {}, mixed) == 0
    assert trunk.enter([dict(batch)], "train", {}, mixed) == 0
    assert trunk.kept().rows == 0
    assert trunk.kept().said == ("activations of a sample depend on the others of its micro-batch: nothing is kept",)


def test_where_no_segment_is_constant_there_is_nothing_to_keep(tmp_path: Path) -> None:
    """A slot in the first segment is refused with what to do; the segment of the lowest slot is where a trunk ends."""
    run = runner(tmp_path, segments=(1, 1))
    assert trunk_of(run.manifest) == 0
    with pytest.raises(BadData, match="--trunk apart"):
        keep(run.chain, tmp_path / "trunk", QUOTA)
    (tmp_path / "two").mkdir()
    assert trunk_of(runner(tmp_path / "two", segments=(1, 1, 1), frozen=(0,)).manifest) == 1


def test_a_full_quota_keeps_what_it_has(tmp_path: Path) -> None:
    """With room for three of five rows each pass finds three, the file is within its quota, gradients are right."""
    room = 4096 + 256 * 48 + 3 * 20
    run, trunk = cached(tmp_path, quota=room + 19)
    adapter, given = random_adapter(run.manifest), rows(5)
    expected = without(tmp_path).gradients(given, adapter)

    for _ in range(3):
        assert apart(run.gradients(given, adapter), expected) < 1e-6

    assert (trunk.kept().hits, trunk.kept().misses, trunk.kept().rows) == (6, 9, 3)
    assert trunk.kept().file_bytes == room


def test_pictures_of_a_pass_are_seen_by_the_owner_alone(tmp_path: Path) -> None:
    """The file can be read by its owner alone, and so can the folder that is made for it."""
    run, _ = cached(tmp_path)
    run.forward(pictures(2))
    assert (tmp_path / "kept" / "trunk").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_jobs_of_an_agent_find_what_earlier_jobs_have_made(tmp_path: Path) -> None:
    """The worker's file lies in the state folder and outlives the worker; a bundle without a trunk has none."""
    board = make_board(tmp_path / "board", segments=(1, 1), frozen=(0,))
    place = prepare(replace(board.config, cache_bytes=QUOTA)).place
    given, found = ["red sun", "green leaf", "blue sea", "sun"], []
    for _ in range(2):
        desk = Desk()
        run = desk.at(place)
        run.forward(given)
        assert run.chain.trunk is not None
        found.append((run.chain.trunk.kept().hits, run.chain.trunk.kept().misses))
        desk.close()

    assert found == [(0, 4), (4, 0)]
    assert (board.config.state / "trunk").is_file()
    assert Desk().at(replace(place, cache_bytes=0)).chain.trunk is None
