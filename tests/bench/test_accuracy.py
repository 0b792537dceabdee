"""The bench of accuracy: how rows are drawn and read, and one short run of every trainer on data made here."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import digits, sources
from bench.accuracy.trial import drawn
from edge.data.row import Row
from tests.export import models

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("a", "good", "bad", "film", "plot")


def write_data(folder: Path) -> None:
    """Sentences whose label is a word, and pictures whose label is where they are bright."""
    generator = np.random.default_rng(0)
    for name, count in (("train", 120), ("dev", 40)):
        lines = [
            f"{' '.join(generator.choice(WORDS, 4))} {'good' if k % 2 else 'bad'}\t{k % 2}\n" for k in range(count)
        ]
        (folder / "sst2").mkdir(parents=True, exist_ok=True)
        (folder / "sst2" / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    labels = np.arange(400, dtype=np.uint8) % 10
    pictures = generator.integers(0, 60, (400, 28, 28)).astype(np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 * label : 2 * label + 6] = 250
    (folder / "mnist").mkdir()
    head = (2051).to_bytes(4, "big") + (400).to_bytes(4, "big") + 2 * (28).to_bytes(4, "big")
    (folder / "mnist" / "images.idx3.gz").write_bytes(gzip.compress(head + pictures.tobytes()))
    head = (2049).to_bytes(4, "big") + (400).to_bytes(4, "big")
    (folder / "mnist" / "labels.idx1.gz").write_bytes(gzip.compress(head + labels.tobytes()))


def test_rows_are_drawn_by_the_seed_and_classes_are_on_both_sides() -> None:
    """The same seed gives the same rows; no row is on both sides; a tenth is kept back, of every large class."""
    rows = [Row(k, k % 3) for k in range(300)]
    one, two, other = (drawn(rows, 100, seed) for seed in (1, 1, 2))
    assert one == two != other
    assert (len(one.train), len(one.holdout)) == (90, 10)
    assert not {row.sample for row in one.train} & {row.sample for row in one.holdout}
    assert {row.label for row in one.holdout} == {0, 1, 2}
    assert len(drawn(rows, 1000, 0).all) == 300


def test_digits_that_made_the_model_are_not_adapted_on(tmp_path: Path) -> None:
    """Turned digits are the last four tenths, inverted and turned by a quarter; what is no IDX file is refused."""
    write_data(tmp_path)
    pictures, labels = sources.mnist(tmp_path)
    train, test = digits.shifted(pictures, labels)
    assert (len(train), len(test), digits.used(labels)) == (120, 40, 240)
    first = np.asarray(train[0].sample)
    np.testing.assert_array_equal(first, 255 - np.rot90(np.round(255 * pictures[240, 0]).astype(np.uint8)))
    assert train[0].label == labels[240]
    (tmp_path / "mnist" / "images.idx3.gz").write_bytes(gzip.compress(b"else" * 8))
    with pytest.raises(ValueError, match="expected an IDX file"):
        sources.mnist(tmp_path)


@pytest.mark.heavy
def test_every_trainer_runs_and_what_is_absent_is_said(tmp_path: Path) -> None:
    """Without CLINC150 it says so; the file has a run for each case, with accuracy, passes and how it ended."""
    write_data(tmp_path / "data")
    encoder = models.tiny_bert(tmp_path / "bert")
    out = tmp_path / "found.json"
    options = ["--quick", "--jobs", "1", "--model", str(encoder), "--out", str(out)]
    ran = subprocess.run(  # this interpreter, on arguments made here
        [sys.executable, "-m", "bench.accuracy", *options],
        env={**os.environ, "EDGEQUILT_DATA": str(tmp_path / "data")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    assert "clinc150 is left out" in ran.stdout
    found = json.loads(out.read_text(encoding="utf-8"))
    names = {(run["data"], run["trainer"]) for run in found["runs"]}
    assert names == {("sst2", t) for t in ("ridge", "backprop", "spry", "qzo")} | {
        ("mnist", t) for t in ("ridge", "backprop")
    }
    assert all(0 <= run["accuracy"] <= 1 and run["forward"] > 0 for run in found["runs"])
    steps = {run["trainer"]: run for run in found["runs"] if run["data"] == "sst2"}
    assert steps["backprop"]["backward"] == 8
    looked = 2 * 4
    assert steps["spry"]["forward"] == 36 + 2 * 2 * 8 + looked
