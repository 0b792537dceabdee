"""Real input that a user gives to verify with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, StorageError
from export.cli import export
from export.prepare import Wanted, prepare
from export.sample import read_sample
from tests.export.sources.files import WIDE, perceptron, write


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_a_sample_is_what_is_verified_with(rows: int, tmp_path: Path) -> None:
    """The file's own numbers are fed, its rows repeated or cut to the micro-batch; seeded runs are drawn as before."""
    path = write(perceptron(), tmp_path / "model.onnx")
    x = np.random.default_rng(3).standard_normal((rows, WIDE)).astype(np.float32)
    np.savez(tmp_path / "sample.npz", x=x)
    wanted = Wanted(str(path), sample=read_sample(tmp_path / "sample.npz"))
    prepared = prepare(wanted, ("fp32",), ("serve",), tmp_path / "work")
    fed = prepared.samples(4, None)[0]["x"]
    assert np.array_equal(fed, np.resize(x, (4, WIDE)))
    assert not np.array_equal(fed, prepared.samples(4, 1)[0]["x"])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "found nothing in it"),
        ({"z": np.zeros((1, WIDE), np.float32)}, "found 'z', where the model reads x"),
        ({"x": np.zeros((1, 5), np.float32)}, rf"found x of the shape \[1, 5\], where it is \['rows', {WIDE}\]"),
        ({"x": np.zeros((0, WIDE), np.float32)}, "found x of the shape"),
        ({"x": np.zeros((1, WIDE), np.int64)}, "found x of the type int64, where it is float32"),
        ({"x": np.array([None])}, "expected an .npz file with an array per input at .*, found something else"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    """By the command, with what would fit; nothing is left."""
    path = write(perceptron(), tmp_path / "model.onnx")
    np.savez(tmp_path / "sample.npz", **arrays)
    line = [str(path), "--budget", "100MiB", "--sample", str(tmp_path / "sample.npz"), "--out", str(tmp_path / "out")]
    with pytest.raises(BadData, match=words):
        export([*line, "--json"])
    assert not (tmp_path / "out").exists()


def test_a_file_that_holds_no_arrays(tmp_path: Path) -> None:
    """Text, a single array, a file that is cut off, and none at all."""
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("x = 1")
    np.savez(tmp_path / "whole.npz", x=np.zeros(300))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, words in (("single.npy", "a single array"), ("text.npz", "else"), ("cut.npz", "else"), ("empty.npz", "")):
        with pytest.raises(BadData, match=f"expected an .npz file.*{words}"):
            read_sample(tmp_path / name)
    with pytest.raises(StorageError, match="No such file"):
        read_sample(tmp_path / "nowhere.npz")
