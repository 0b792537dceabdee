"""NPZ: rows by input name, mapped from the file, checked as a whole and row by row; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, StorageError
from edge.data import count_data, open_data
from edge.tensors import Tensors
from tests.edge.data.models import tensors_of
from wire.manifest import Bucket, Manifest, Tensor

X, Y = Tensor("x", "float32", (2, 3)), Tensor("y", "int64", (2, 2, 2))


def arrays(rows: int = 6) -> dict[str, Any]:
    """Rows that fit."""
    draw = np.random.default_rng(0)
    return {"x": draw.standard_normal((rows, 3)), "y": draw.integers(0, 9, (rows, 2, 2)), "label": np.arange(rows) % 3}


def written(folder: Path, **values: Any) -> tuple[Path, Manifest]:
    """A file, and a model of two inputs."""
    np.savez(folder / "it.npz", **values)
    return folder / "it.npz", tensors_of(folder, X, Y)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_those_of_the_arrays(tmp_path: Path, named: bool, packed: bool) -> None:
    """Stored or compressed, labels by index or by name: every row comes with its numbers, in the model's types."""
    given = arrays()
    label = np.array(["a", "b", "c"])[given["label"]] if named else given["label"].astype(np.uint8)
    path, manifest = written(tmp_path, **given)
    (np.savez_compressed if packed else np.savez)(path, x=given["x"], y=np.asfortranarray(given["y"]), label=label)

    rows = open_data(path, manifest, 0.0).train
    found = Tensors(manifest.preprocess, manifest.inputs).prepare([r.sample for r in rows], Bucket("b2", 2))

    taken = found.take([5, 0])
    assert [r.label for r in rows] == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(taken["x"], given["x"][[5, 0]].astype(np.float32))
    np.testing.assert_array_equal(taken["y"], given["y"][[5, 0]])
    assert [taken[n].dtype for n in "xy"] == [np.float32, np.int64]
    assert count_data(path, manifest) == 6


def test_stored_arrays_stay_in_the_file(tmp_path: Path) -> None:
    """What savez wrote is mapped, not read: the rows' memory belongs to the file."""
    path, manifest = written(tmp_path, **arrays())

    sample = open_data(path, manifest, 0.0).train[3].sample["x"]

    owner = sample
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner, np.memmap)


def test_a_row_is_kept_back_by_its_numbers(tmp_path: Path) -> None:
    """Shuffling and growing the file moves no row across."""
    given = arrays(200)
    path, manifest = written(tmp_path, **{n: v[:120] for n, v in given.items()})
    small = {r.sample["x"].tobytes() for r in open_data(path, manifest, 0.3).holdout}
    np.savez(path, **{n: v[::-1] for n, v in given.items()})

    large = {r.sample["x"].tobytes() for r in open_data(path, manifest, 0.3).holdout}

    assert 15 < len(small) < 60
    assert small < large


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an input is absent": ({"y": None}, ["expected an array 'y' int64 [rows, 2, 2], found none"]),
    "no labels": ({"label": None}, ["expected an array 'label' with a class per row, found none"]),
    "labels of fractions": (
        {"label": np.ones(6)},
        ["expected 'label' [rows] of names or whole numbers, found float64"],
    ),
    "a foreign array": ({"z": np.ones(6)}, ["z is not an input of the model; remove it"]),
    "another shape": ({"x": np.ones((6, 4))}, ["expected 'x' float32 [rows, 3], found float64 [6, 4]"]),
    "another type": ({"y": np.ones((6, 2, 2))}, ["expected 'y' int64 [rows, 2, 2], found float64 [6, 2, 2]"]),
    "fewer rows": ({"x": np.ones((5, 3))}, ["expected 6 rows in 'x', as in 'label', found 5"]),
    "two at once": ({"x": np.ones(6), "y": np.ones((6, 1, 2), int)}, ["expected 'x'", "expected 'y'", "these rows"]),
    "not finite": ({"x": np.full((6, 3), np.nan)}, ["row 0: expected finite numbers", "row 5"]),
    "a label out of range": (
        {"label": np.array([0, 1, 2, 3, -1, 0])},
        ["row 3: expected a label from 0 to 2", "row 4"],
    ),
    "an unknown name": ({"label": np.array(["a"] * 5 + ["dgo"])}, ["row 5: unknown label 'dgo'"]),
    "Python objects": ({"x": np.array([None] * 6)}, ["x.npy holds Python objects, which are not read"]),
    "no rows": (
        {"x": np.ones((0, 3)), "y": np.ones((0, 2, 2), int), "label": np.ones(0, int)},
        ["expected rows in", "save an array per input"],
    ),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    """Everything about an array or a row that does not fit the model is refused by name."""
    path, manifest = written(tmp_path, **{n: v for n, v in (arrays() | change).items() if v is not None})

    with pytest.raises(BadData) as found:
        open_data(path, manifest, 0.0)

    for word in words:
        assert word in str(found.value)


def test_torn_and_foreign_files_are_words(tmp_path: Path) -> None:
    """A file cut short, one with a flipped bit, one that holds no arrays, and one that is not there."""
    path, manifest = written(tmp_path, **arrays())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"\x93NUMPY") + 140] ^= 1
    for data, words in ((whole[:-100], "expected arrays by name"), (flipped, "checksum"), (b"red", "expected arrays")):
        path.write_bytes(data)
        with pytest.raises(BadData, match=words):
            open_data(path, manifest, 0.0)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"red")
    with pytest.raises(BadData, match="expected arrays by name"):
        open_data(path, manifest, 0.0)
    path.unlink()
    with pytest.raises(StorageError, match="check the path"):
        open_data(path, manifest, 0.0)
