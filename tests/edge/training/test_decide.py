"""What a run begins with: the trainer, the tier that the data support, and the head below which it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData, Declined
from edge.data.row import Row
from edge.runner import Runner
from edge.training.classes import Classes
from edge.training.conduct import features_of
from edge.training.decide import Decision, Means, better_than_guessing, decide, free_bytes
from edge.training.heads import Recipe, Solved, closed_head
from edge.training.task import Task
from edge.training.wish import Wish
from tests.edge.test_gradients import random_adapter, runner
from wire.adapter import Adapter
from wire.kinds.head import Head
from wire.manifest import Manifest


def telling(count: int, seed: int = 0) -> list[Row]:
    """Pictures that are brighter in one of three places, which is their class."""
    drawn = np.random.default_rng(seed)
    found = []
    for i in range(count):
        picture = drawn.integers(0, 120, (4, 4))
        picture[i % 3] += 120
        found.append(Row(picture.astype(np.uint8), i % 3))
    return found


def noise(count: int) -> list[Row]:
    """Pictures that say nothing of their class."""
    drawn = np.random.default_rng(1)
    return [Row(drawn.integers(0, 256, (4, 4), dtype=np.uint8), int(drawn.integers(0, 3))) for _ in range(count)]


def decided(
    run: Runner,
    given: list[Row],
    wish: Wish,
    begun: Adapter | None = None,
    kept_back: int = 20,
    manifest: Manifest | None = None,
) -> tuple[Decision, str]:
    """The decision, and what was said."""
    said: list[str] = []

    def task(trainer: str, adapter: Adapter) -> Task:
        return Classes(run, adapter, given, backward=trainer == "backprop")

    def solve(adapter: Adapter, recipes: Sequence[Recipe]) -> Solved:
        return closed_head(*features_of(run, adapter, given), 3, recipes=recipes)

    means = Means(manifest or run.manifest, len(given), kept_back, 50, task, solve)
    found = decide(means, begun, wish, lambda *words: said.extend(words))
    return found, "\n".join(said)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Two layers with biases, and a plan of rank 4."""
    return runner(tmp_path, biases=True, rank=4, segments=(2,))


def test_many_rows_get_the_largest_tier_below_a_head_that_says_something(run: Runner) -> None:
    """300 rows train rank 4 by backpropagation, from a head in closed form that is better than guessing."""
    found, said = decided(run, telling(300), Wish())
    assert (found.trainer, found.offer.name, found.adapter.rank) == ("backprop", "rank 4 with biases", 4)
    given = telling(90, seed=5)
    right = run.forward([r.sample for r in given], found.adapter).logits.argmax(axis=1) == [r.label for r in given]
    assert right.mean() > 0.6
    for phrase in ("Backpropagation: ", "The head is solved by", "Train rank 4 with biases: the largest of 4"):
        assert phrase in said


def test_few_rows_get_what_they_support(run: Runner) -> None:
    """18 rows train less, or the head alone; the head stays, and what is declined is said with its numbers."""
    found, said = decided(run, telling(18), Wish(rate=0.1))
    assert found.offer.parameters < 134
    assert found.adapter.head is not None
    assert found.adapter.head.weight.any()
    assert "is declined: it needs" in said


def test_force_trains_what_was_asked_for(run: Runner) -> None:
    """With --force 6 rows train the rank that was asked for, and nothing is measured."""
    found, said = decided(run, telling(6), Wish(force=True, rank=3))
    assert (found.offer.name, found.adapter.rank) == ("rank 3 with biases", 3)
    assert "Measured" not in said


def test_rows_that_say_nothing_are_declined(run: Runner) -> None:
    """A head that is no better than guessing, and a tier that few rows do not support, are declined with numbers."""
    with pytest.raises(Declined, match=r"found \d+ of \d+ rows kept back right where the most frequent class has \d+"):
        decided(run, noise(12), Wish(kinds=("head",)))
    with pytest.raises(Declined, match="too few rows for every one of them"):
        decided(run, telling(6), Wish(rate=1.0, kinds=("lora",)))


def test_a_head_alone_is_solved_by_ridge(run: Runner) -> None:
    """--kinds head, or --trainer ridge, gives a head without factors."""
    for wish in (Wish(kinds=("head",)), Wish(trainer="ridge")):
        found, said = decided(run, telling(60), wish)
        assert (found.trainer, found.offer.name, found.adapter.rank, found.adapter.bias) == ("ridge", "head", 0, {})
        assert "Train the head alone." in said


def test_what_was_begun_is_not_lost(run: Runner) -> None:
    """An adapter of rank 6 goes on at rank 6 though the plan's is 4, with its own head; few rows decline it."""
    begun = random_adapter(run.manifest, rank=6)
    found, _ = decided(run, telling(1200), Wish(), begun)
    assert (found.adapter.rank, found.offer.rank) == (6, 6)
    np.testing.assert_array_equal(found.adapter.lora["layer.0"].a, begun.lora["layer.0"].a)
    assert found.adapter.head is begun.head
    with pytest.raises(Declined, match="too few rows"):
        decided(run, telling(5), Wish(rate=1.0), begun)
    cut, _ = decided(run, telling(1200), Wish(rank=2), begun)
    assert cut.adapter.rank == 2


def test_a_head_that_was_begun_is_solved_again_by_ridge(run: Runner) -> None:
    """--trainer ridge replaces the head of an adapter and keeps its factors."""
    begun = random_adapter(run.manifest, rank=2)
    found, _ = decided(run, telling(60), Wish(trainer="ridge"), begun)
    assert found.adapter.lora == begun.lora
    assert found.adapter.head is not begun.head


def test_forward_passes_without_measurement_count_all_parameters(run: Runner) -> None:
    """--trainer spry has no gradients to measure: 80 rows are enough for 10 biases, and not for 41 parameters."""
    found, said = decided(run, telling(80), Wish(trainer="spry", directions=5))
    assert (found.trainer, found.offer.name, found.directions) == ("spry", "bias", 5)
    assert "rank 1 with biases (41 parameters) is declined: it needs 257 samples, found 80" in said


def test_a_bundle_without_backward_graphs_trains_few_parameters_by_forward_passes(run: Runner) -> None:
    """auto takes Spry for the tier that 80 rows support, with six directions for each of its ten parameters."""
    segments = tuple(
        replace(s, graphs=tuple(g for g in s.graphs if g.kind != "backward")) for s in run.manifest.segments
    )
    found, said = decided(run, telling(80), Wish(), manifest=replace(run.manifest, segments=segments))
    assert (found.trainer, found.offer.name, found.directions) == ("spry", "bias", 2)
    assert "No backpropagation: the bundle has no backward graph" in said


def test_steps_are_capped_where_nothing_ends_a_run_early(run: Runner) -> None:
    """Without rows kept back, and without --steps, no more steps are taken than are worthwhile or a pass."""
    assert decided(run, telling(300), Wish())[0].steps is None
    bare, said = decided(run, telling(300), Wish(), kept_back=0)
    assert bare.steps is not None
    assert 19 <= bare.steps <= 50
    assert "of 50 steps are worth taking" in said
    assert decided(run, telling(300), Wish(steps=50), kept_back=0)[0].steps is None


def test_a_trainer_without_a_place_is_refused(tmp_path: Path) -> None:
    """--trainer backprop with a head alone to learn: the sentence names ridge."""
    with pytest.raises(BadData, match="take --trainer ridge"):
        decided(runner(tmp_path), telling(9), Wish(trainer="backprop", kinds=("head",)))


def test_a_head_is_held_against_guessing() -> None:
    """Of 100 rows with 50 guessed, 61 right are better than that and 60 are not; with none kept back it is believed."""
    head = Head(np.zeros((1, 2), np.float32), np.zeros(2, np.float32))
    solved = Solved(head, "ridge", 0.0, 0, 61, 100, 50, ())
    assert better_than_guessing(solved)
    assert not better_than_guessing(replace(solved, right=60))
    assert better_than_guessing(replace(solved, right=0, kept_back=0, guessed=0))


def test_the_memory_that_is_free_is_this_machines() -> None:
    """Below MemAvailable by the rule, and what this process holds is not taken off twice."""
    free = free_bytes()
    assert free is not None
    assert free > 0
