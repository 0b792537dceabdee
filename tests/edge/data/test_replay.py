"""Rows kept from earlier data: what is chosen, and what a folder holds after restarts, kills and full disks."""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from console.errors import BadData, StorageError
from edge.data import Row, open_data
from edge.data.diverse import BLOCK_ROWS, choose_rows, shares
from edge.data.replay import INDEX, Replay, mixed
from edge.runner import Runner
from edge.tensors import Tensors
from tests.edge.bundles import make_bundle
from tests.edge.data.models import LABELS, manifest_of, tensors_of
from tests.edge.data.waves import write_wave
from tests.edge.test_disk import every_kill
from wire.bundle import open_bundle
from wire.manifest import Bucket, Tensor


def draw(count: int, seed: int, width: int = 24) -> NDArray[np.float32]:
    """Features as nets give them: many rows of a few common patterns, few of rare ones, some channels seldom used."""
    random = np.random.default_rng(seed)
    patterns = random.standard_normal((width, width))
    often = 1.0 / (1 + np.arange(width)) ** 2
    which = random.choice(width, count, p=often / often.sum())
    return (patterns[which] + 0.1 * random.standard_normal((count, width))).astype(np.float32)


def reached(features: NDArray[np.float32], chosen: NDArray[np.int64]) -> tuple[float, float]:
    """The mean share of channel maxima that the chosen rows reach, and their smallest singular value."""
    some = features[chosen].astype(np.float64)
    maxima = np.abs(some).max(axis=0) / np.abs(features).max(axis=0)
    return float(maxima.mean()), float(np.linalg.svd(some, compute_uv=False)[-1])


@pytest.mark.parametrize("count", [200, BLOCK_ROWS + 300])
def test_pivots_cover_more_than_a_uniform_choice(count: int) -> None:
    """At equal rows the choice reaches more of the channel maxima and spans more than the best of forty draws."""
    features = draw(count, 1)

    mine = reached(features, np.array(choose_rows(features, [0] * count, [1] * count, 24)))

    random = np.random.default_rng(2)
    draws = [reached(features, random.choice(count, 24, replace=False)) for _ in range(40)]
    assert mine[0] > max(maxima for maxima, _ in draws)
    assert mine[1] > 2 * max(smallest for _, smallest in draws)


def test_classes_share_the_budget_evenly() -> None:
    """A class of two rows keeps both, the others share the rest; the first rows of the order are balanced as well."""
    features, labels = draw(300, 3), [0] * 200 + [1] * 2 + [2] * 98

    chosen = choose_rows(features, labels, [1] * 300, 21)

    assert Counter(labels[i] for i in chosen) == {0: 10, 1: 2, 2: 9}
    assert Counter(labels[i] for i in chosen[:6]) == {0: 2, 1: 2, 2: 2}
    assert len(set(chosen)) == 21


@pytest.mark.parametrize("total", [0, 1, 5, 17, 60, 500])
def test_shares_are_as_even_as_they_can_be(total: int) -> None:
    """Against dealing one at a time to the class that has fewest and has more to give."""
    counts = {4: 3, 0: 40, 2: 1, 1: 9}
    dealt = dict.fromkeys(sorted(counts), 0)
    for _ in range(min(total, sum(counts.values()))):
        dealt[min((n for n in dealt if dealt[n] < counts[n]), key=lambda n: (dealt[n], n))] += 1

    assert shares(counts, total) == dealt


def test_bytes_bound_what_is_kept() -> None:
    """No choice takes more bytes than it may, and a row that is too large leaves its turn to the next."""
    features, sizes = draw(30, 4), [10 + i % 7 for i in range(30)]
    sizes[choose_rows(features, [0] * 30, sizes, 1)[0]] = 1000

    chosen = choose_rows(features, [i % 2 for i in range(30)], sizes, 30, 100)

    assert 80 < sum(sizes[i] for i in chosen) <= 100
    assert choose_rows(features, [0] * 30, sizes, 0) == []


def texts(count: int, seed: int = 0) -> tuple[list[Row], NDArray[np.float32]]:
    """Rows of text with features."""
    return [Row(f"text {seed} {i}", i % 3) for i in range(count)], draw(count, seed)


def loaded(folder: Path, rows: int = 9, kind: str = "text", **more: Any) -> Replay:
    """The replay of a folder."""
    return Replay.load(folder / "kept", LABELS, kind, rows, **more)


def test_a_restart_between_two_offers_changes_nothing(tmp_path: Path) -> None:
    """The same offers, by one object or by a new one each time and in another order of rows, leave the same bytes."""
    one = loaded(tmp_path / "one")
    for turn in range(3):
        rows, features = texts(30, turn)
        features[:, 2:] = 0  # beyond two pivots a class has nothing more to say, and any of its rows would do
        one.offer(rows, features)
        again = loaded(tmp_path / "two")
        again.offer(rows[::-1], features[::-1])

    left, right = ((tmp_path / name / "kept" / INDEX).read_bytes() for name in ("one", "two"))
    assert left == right
    assert loaded(tmp_path / "one").rows() == one.rows()
    np.testing.assert_array_equal(loaded(tmp_path / "two").features(), one.features())
    assert Counter(row.label for row in one.rows()) == {0: 3, 1: 3, 2: 3}


def test_old_rows_stay_while_they_say_more_than_new_ones(tmp_path: Path) -> None:
    """A row in a direction of its own survives offers of many others; one that says nothing makes room."""
    replay = loaded(tmp_path, 4)
    replay.offer([Row("rare", 0), Row("dull", 0)], np.array([[0, 0, 9.0], [0.01, 0, 0]]))
    for turn in range(3):
        rows = [Row(f"{turn} {i}", 0) for i in range(20)]
        features = np.random.default_rng(turn).standard_normal((20, 3)) * [3, 2, 0.01]
        new = replay.offer(rows, features)
        assert new == sum(row in rows for row in replay.rows())

    kept = [row.sample for row in replay.rows()]
    assert "rare" in kept
    assert "dull" not in kept
    assert len(kept) == 4
    assert replay.offer([Row("rare", 0)], np.array([[0, 0, 9.0]])) == 0


def test_the_door_of_jsonl_reads_what_is_kept(tmp_path: Path) -> None:
    """Texts and pictures that are kept can be opened as data, and give the runner what the originals gave."""
    for kind in ("text", "image"):
        make_bundle(tmp_path / kind, kind=kind, labels=LABELS)
        runner = Runner(open_bundle(tmp_path / kind, None))
        rows = [Row(f"red {'sea ' * i}", i % 3) for i in range(6)]
        if kind == "image":
            pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)
            Image.fromarray(pixels[0]).save(tmp_path / "0.png")
            rows = [Row(tmp_path / "0.png" if i == 0 else pixels[i], i % 3) for i in range(6)]
        features = runner.forward([row.sample for row in rows]).features
        replay = Replay.load(tmp_path / "kept" / kind, LABELS, kind)
        assert replay.offer(rows, features) == 6

        found = open_data(tmp_path / "kept" / kind / INDEX, runner.manifest, 0.0).train

        assert found == replay.rows() == Replay.load(tmp_path / "kept" / kind, LABELS, kind).rows()
        np.testing.assert_array_equal(runner.forward([row.sample for row in found]).features, replay.features())
        runner.close()


def test_arrays_and_sounds_are_kept_too(tmp_path: Path) -> None:
    """Rows of NPZ and WAV files come back from the folder as the model's inputs, their own files gone."""
    manifest = tensors_of(tmp_path, Tensor("samples", "float32", (2, 200)), sampling_rate=8000)
    (tmp_path / "a").mkdir()
    sound = write_wave(tmp_path / "a" / "x.wav", np.linspace(-1, 1, 200), 8000)
    rows = [Row({"samples": np.full(200, 0.5)}, 2), Row(sound, 0)]
    way = Tensors(manifest.preprocess, manifest.inputs)
    before = way.prepare([row.sample for row in rows], Bucket("b2", 2)).take([0, 1])["samples"]
    replay = loaded(tmp_path, kind="tensors")
    replay.offer(rows, np.eye(2))
    sound.unlink()

    found = open_data(tmp_path / "kept" / INDEX, manifest, 0.0).train

    after = way.prepare([row.sample for row in found], Bucket("b2", 2)).take([0, 1])["samples"]
    assert {row.label: value.tobytes() for row, value in zip(found, after, strict=True)} == {
        row.label: value.tobytes() for row, value in zip(rows, before, strict=True)
    }
    assert oct((tmp_path / "kept" / INDEX).stat().st_mode)[-3:] == "600"


def test_a_kill_between_any_two_steps_leaves_the_rows_of_before_or_after(tmp_path: Path) -> None:
    """Nothing is lost, nothing half-written is read, what a kill left behind is swept by the next offer."""
    left = every_kill("replay", tmp_path)

    assert len(left) > 12
    for found in left:
        assert (found["lost"], found["after"]) == (0, 2)
        assert found["files"] == 3
        assert (
            found["found"]
            in {
                "": ([], [0, 1]),
                "first": ([0, 1], [10, 11]),
                "second": ([10, 11],),
            }[(["", *found["said"]])[-1]]
        )


@contextmanager
def files_of(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [40, 300])
def test_a_full_disk_leaves_the_rows_of_before(tmp_path: Path, limit: int) -> None:
    """Where a sample or the list of rows cannot be written, folder and object hold what they held, in one sentence."""
    replay = loaded(tmp_path, kind="tensors")
    replay.offer([Row({"x": np.full(3, i)}, i) for i in range(2)], np.eye(2))
    before, files = replay.rows(), sorted((tmp_path / "kept").rglob("*"))

    with files_of(limit), pytest.raises(StorageError, match="File too large.*free some space"):
        replay.offer([Row({"x": np.full(3, 7)}, 2)], np.ones((1, 2)))

    assert replay.rows() == before == loaded(tmp_path, kind="tensors").rows()
    assert sorted((tmp_path / "kept").rglob("*")) == files
    assert replay.offer([Row({"x": np.full(3, 7)}, 2)], np.ones((1, 2))) == 1


def test_torn_lines_and_files_are_left_out_and_counted(tmp_path: Path) -> None:
    """A line cut short, one whose label was changed, and an array with a flipped bit are lost; the others stay."""
    replay = loaded(tmp_path, kind="tensors")
    replay.offer([Row({"x": np.full(3, i)}, i % 3) for i in range(6)], draw(6, 0))
    path = tmp_path / "kept" / INDEX
    lines = path.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    first["label"] = next(label for label in LABELS if label != first["label"])
    blob = tmp_path / "kept" / json.loads(lines[1])["arrays"]
    data = bytearray(blob.read_bytes())
    data[60] ^= 1
    blob.write_bytes(data)
    path.write_bytes(json.dumps(first).encode() + b"\n" + b"".join(lines[1:5]) + lines[5][:50])

    found = loaded(tmp_path, kind="tensors")

    assert (len(found), found.lost) == (3, 3)
    assert set(found.rows()) < set(replay.rows())
    found.offer([Row({"x": np.full(3, 99)}, 0)], np.full((1, 24), 50))
    assert (len(loaded(tmp_path, kind="tensors")), loaded(tmp_path, kind="tensors").lost) == (4, 0)


def test_what_cannot_be_kept_is_a_sentence(tmp_path: Path) -> None:
    """Features that do not fit or are not finite, samples of another kind, and a folder of another model."""
    replay = loaded(tmp_path)
    rows, features = texts(6)
    replay.offer(rows, features)
    for more, values, words in (
        (rows, features[:3], r"expected features \[6, D\] for these rows, found \[3, 24\]"),
        (rows, np.full((6, 24), np.nan), "expected finite features"),
        ([Row("new", 0)], np.ones((1, 3)), "expected features of one length, found 3 and 24"),
        ([Row(tmp_path / "absent.png", 0)], features[:1], "expected a sample at"),
        ([Row(3, 0)], features[:1], "expected a sample of a bundle that takes text, found int"),
    ):
        with pytest.raises(BadData, match=words):
            replay.offer(more, values)
    assert replay.offer([Row("new", 0)], np.ones((1, 3)), np.ones((6, 3))) == 1
    with pytest.raises(BadData, match="use another folder for another model"):
        Replay.load(tmp_path / "kept", ("x", "y"), "text")
    with pytest.raises(BadData, match="use another folder for another model"):
        Replay.load(tmp_path / "kept", LABELS, "image")


def test_kept_rows_are_mixed_in_by_a_share() -> None:
    """Kept rows make the share asked for, few of them come again, and without any there are the new ones alone."""
    new, kept = [Row(f"new {i}", 0) for i in range(30)], [Row(f"old {i}", 1) for i in range(4)]

    found = mixed(new, kept, 0.25)

    assert Counter(row.label for row in found) == {0: 30, 1: 10}
    assert Counter(row.sample for row in found[30:]) == {"old 0": 3, "old 1": 3, "old 2": 2, "old 3": 2}
    assert mixed(new, [], 0.5) == tuple(new)
    assert mixed(new, kept, 0.0) == tuple(new)


def test_the_manifest_names_what_replay_needs(tmp_path: Path) -> None:
    """Labels and kind of a bundle make a replay that its own data goes into."""
    manifest = manifest_of(tmp_path)
    replay = Replay.load(tmp_path / "kept", manifest.labels, manifest.preprocess.kind)

    assert (len(replay), replay.size_bytes) == (0, 0)
    replay.offer(*texts(6))
    assert replay.size_bytes == (tmp_path / "kept" / INDEX).stat().st_size
