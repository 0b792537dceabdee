"""Rows of earlier runs in a training run: what goes in, what is offered afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.data import Data, Row
from edge.data.replay import Replay
from edge.runner import Runner
from edge.training import earlier
from edge.training.earlier import Earlier
from tests.edge.bundles import VOCABULARY, make_bundle
from wire.bundle import open_bundle

LABELS = ("a", "b", "c")
WORDS = VOCABULARY[2:]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """Of texts of at most six words."""
    make_bundle(tmp_path / "bundle", kind="text", labels=LABELS)
    made = Runner(open_bundle(tmp_path / "bundle", None))
    yield made
    made.close()


def texts(count: int, seed: int, labels: int = 3) -> tuple[Row, ...]:
    """Rows of drawn words."""
    random = np.random.default_rng(seed)
    return tuple(Row(" ".join(random.choice(WORDS, 4)) + f" {seed}.{i}", i % labels) for i in range(count))


def test_rows_of_before_get_their_share(tmp_path: Path, runner: Runner) -> None:
    """What a first run learned from is a quarter of the second one's rows, every class among it, and judged by none."""
    first, second = Data(texts(40, 0), ()), Data(texts(30, 1, labels=1), texts(5, 2))
    begun = Earlier(Replay.load(tmp_path / "kept", LABELS, "text", 12), 0.25)
    assert begun.into(first) == first
    assert begun.offer(runner, first.train) == 12

    found = Earlier(Replay.load(tmp_path / "kept", LABELS, "text", 12), 0.25).into(second)

    old = found.train[30:]
    assert found.train[:30] == second.train
    assert found.holdout == second.holdout
    assert set(old) <= set(first.train)
    assert Counter(row.label for row in old) == {0: 4, 1: 3, 2: 3}


def test_rows_may_be_offered_in_blocks(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows offered block by block fill the folder as rows offered at once do where it has room for all of them."""
    rows = texts(20, 0)
    whole = Earlier(Replay.load(tmp_path / "whole", LABELS, "text", 40))
    monkeypatch.setattr(earlier, "BLOCK_ROWS", 7)
    parts = Earlier(Replay.load(tmp_path / "parts", LABELS, "text", 40))

    for one in (whole, parts):
        assert one.offer(runner, rows) == 20

    assert set(whole.replay.rows()) == set(parts.replay.rows()) == set(rows)


def test_what_is_kept_back_or_there_already_is_not_mixed_in(tmp_path: Path, runner: Runner) -> None:
    """A text that this run judges by is not learned from, and one that it learns from anyway comes once."""
    rows = texts(20, 0)
    kept = Earlier(Replay.load(tmp_path / "kept", LABELS, "text"), 0.5)
    kept.offer(runner, rows)

    assert not set(kept.into(Data(texts(10, 5), rows[:6])).train) & set(rows[:6])
    assert kept.into(Data(rows, ())).train == rows


def test_files_that_are_in_the_data_do_not_come_twice(tmp_path: Path) -> None:
    """A picture that is in the folder and in the data, under whatever name, is learned from once."""
    make_bundle(tmp_path / "bundle", kind="image", labels=LABELS)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    rows = tuple(Row(tmp_path / f"{i}.png", i % 3) for i in range(6))
    runner = Runner(open_bundle(tmp_path / "bundle", None))
    kept = Earlier(Replay.load(tmp_path / "kept", LABELS, "image"), 0.5)
    assert kept.offer(runner, rows[:4]) == 4
    runner.close()
    (tmp_path / "0.png").rename(tmp_path / "moved.png")

    found = kept.into(Data((Row(tmp_path / "moved.png", 0), rows[4], rows[5]), (rows[1],)))

    assert len(found.train) == 6
    digests = {row.sample.read_bytes() for row in found.train[3:]}
    assert digests == {rows[i].sample.read_bytes() for i in (2, 3)}
