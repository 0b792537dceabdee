"""A board with a front gathers the statistics that it would gather with the whole model; its tail learns nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData
from edge.assemble import prefix
from edge.chain import Chain
from edge.data.row import Row
from edge.features import statistics
from edge.runner import Runner
from edge.split.afar import Afar
from edge.split.channel import Ends, Note
from edge.split.desk import serve
from edge.split.reading import Reading, reading_of
from edge.split.talk import Talk
from edge.split.wish import wish_of
from tests.edge.split.halves import SILENCE_S, Listened, front_of, whole
from tests.edge.test_gradients import random_adapter, rows
from wire.activations import Coding
from wire.inputs import places_of
from wire.kinds.head import Statistics

RANKS = (0, 2)
CODINGS: tuple[tuple[Coding, float], ...] = (("float32", 1e-5), ("float16", 1e-2), ("int8", 0.1))


def _rows(kind: str) -> list[Row]:
    words = ("red sun", "blue sea", "green leaf", "red leaf", "sea", "sun sun blue", "leaf")
    return rows(13) if kind == "image" else [Row(text, i % 3) for i, text in enumerate(words)]


def gathered(
    folder: Path, kind: str, depth: int, coding: Coding, window_bytes: int, *, backward: bool = True
) -> tuple[list[Statistics], list[Statistics], Reading, list[Note]]:
    """Of a board with the whole model, of one with its front, at every rank; and what the tail had, and was told."""
    bundle, given, ends, said = whole(folder, kind=kind), _rows(kind), Ends(), list[Note]()
    version = random_adapter(bundle.manifest)
    at = tuple(prefix(version, rank) for rank in RANKS)
    alone = [statistics(Runner(bundle), adapter, given)[0] for adapter in at]
    made = list[Reading]()
    chain = Chain(bundle, room_bytes=1 << 30)
    thread = threading.Thread(
        target=serve, args=(ends.tail, lambda wish: reading_of(chain, at, wish), made.append, SILENCE_S), daemon=True
    )
    thread.start()
    front = front_of(bundle, depth, backward=backward)
    talk = Talk(Listened(ends.board, said), SILENCE_S)
    talk.open(wish_of(front.manifest, "", coding, [row.label for row in given], labels=False, back=False))
    far = Afar(Runner(front, window_bytes=window_bytes), talk)
    found = [statistics(far, places_of(front.manifest, adapter), given)[0] for adapter in at]
    talk.end()
    thread.join(SILENCE_S)
    return alone, found, made[0], said


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("window_bytes", [1, 1 << 20])
def test_statistics_are_those_of_the_whole_model(tmp_path: Path, depth: int, kind: str, window_bytes: int) -> None:
    """Counts, sums and Gram matrices at every rank, however many micro-batches are on their way at a time."""
    alone, found, reading, said = gathered(tmp_path, kind, depth, "float32", window_bytes)

    for one, other in zip(found, alone, strict=True):
        assert np.array_equal(one.count, other.count)
        assert np.allclose(one.sum, other.sum, atol=1e-5)
        assert np.allclose(one.gram, other.gram, atol=1e-5)
    assert not np.allclose(found[0].gram, found[1].gram, atol=1e-3)
    assert reading.passes == len(RANKS)
    assert said[0].fields["classes"] == []
    assert not any(b"labels" in note.data[:200] for note in said)


def test_a_front_that_runs_forward_only_gathers_the_same(tmp_path: Path) -> None:
    """Nothing goes back for statistics, so a front without backward graphs has the same sums."""
    alone, found, _, _ = gathered(tmp_path, "image", 2, "float32", 1 << 20, backward=False)
    assert all(np.allclose(one.gram, other.gram, atol=1e-5) for one, other in zip(found, alone, strict=True))


def test_fewer_bytes_cost_little(tmp_path: Path) -> None:
    """With 16 or 8 bits per number, less crosses, and sums are as close as such numbers are."""
    crossed = []
    for coding, close in CODINGS:
        alone, found, _, said = gathered(tmp_path / coding, "image", 1, coding, 1 << 20)
        assert all(
            np.abs(one.sum - other.sum).max() <= close * np.abs(other.sum).max()
            for one, other in zip(found, alone, strict=True)
        )
        crossed.append(sum(len(note.data) for note in said))
    assert crossed[0] > crossed[1] > crossed[2]


def test_a_tail_that_only_helps_says_what_it_does_not_take(tmp_path: Path) -> None:
    """A board that would learn, one that goes on after the last pass, and gradients, each with words."""
    bundle = whole(tmp_path)
    chain, front = Chain(bundle), front_of(bundle, 1)
    with pytest.raises(BadData, match="expected a board that asks for features alone, found one that learns"):
        reading_of(chain, (), wish_of(front.manifest, "", "float32"))
    reading = reading_of(chain, (), wish_of(front.manifest, "", "float32", labels=False, back=False))
    for note in (Note("forth"), Note("turned"), Note("step", 1)):
        with pytest.raises(BadData, match=f"micro-batches of pass 0 of 0, found {note.what}"):
            reading.take(note)
