"""From a file to a trained step: every format gives the runner what the same samples give by another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import edgequilt
from edge.data import Row, count_data, open_data
from edge.runner import Runner
from tests.conftest import ROOT
from tests.edge.bundles import make_bundle
from tests.edge.data.models import LABELS, manifest_of, resealed
from tests.edge.data.waves import write_wave
from tests.edge.steppers import seal, write_graph
from tests.edge.test_gradients import random_adapter
from wire.bundle import open_bundle
from wire.manifest import Preprocess, Tensor


def test_arrays_train_as_the_pictures_that_they_are_of(tmp_path: Path) -> None:
    """Features, loss and gradients of NPZ rows are those of the pictures whose tensors they hold."""
    make_bundle(tmp_path / "bundle", kind="image", labels=LABELS)
    bundle = open_bundle(tmp_path / "bundle", None)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8)
    rows = [Row(pixels[i], i % 3) for i in range(5)]
    pictures = Runner(bundle)
    tensors = pictures.ready([row.sample for row in rows]).samples.take(range(5))
    adapter = random_adapter(bundle.manifest)
    wanted, features = pictures.gradients(rows, adapter), pictures.forward([row.sample for row in rows]).features
    pictures.close()
    np.savez(tmp_path / "it.npz", label=[row.label for row in rows], pixel_values=tensors["pixel_values"])

    arrays = Runner(resealed(bundle, preprocess=Preprocess("tensors")))
    data = open_data(tmp_path / "it.npz", arrays.manifest, 0.0)
    found = arrays.gradients(data.train, adapter)

    assert found.loss == wanted.loss
    for name, gradient in wanted.by_input.items():
        np.testing.assert_array_equal(found.by_input[name], gradient)
    np.testing.assert_array_equal(arrays.forward([row.sample for row in data.train]).features, features)
    ready = arrays.ready([row.sample for row in data.train], training=True)
    assert (len(ready), ready.truncated) == (5, 0)
    arrays.close()


def test_a_folder_and_lines_of_the_same_pictures_are_one(tmp_path: Path) -> None:
    """A folder per class, CSV and JSONL over the same files give the same rows, and the same rows are kept back."""
    manifest = manifest_of(tmp_path, "image")
    names = [f"{label}/{i}.png" for label in LABELS for i in range(8)]
    for i, name in enumerate(names):
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / "it" / name)
    lines = [json.dumps({"image": name, "label": name[0]}) for name in names]
    folder = open_data(tmp_path / "it", manifest, 0.3)
    (tmp_path / "it" / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "it" / "rows.csv").write_text("label,image\n" + "".join(f"{name[0]},{name}\n" for name in names))

    assert len(folder.all) == 24
    assert 2 < len(folder.holdout) < 14
    assert open_data(tmp_path / "it" / "rows.jsonl", manifest, 0.3) == folder
    assert open_data(tmp_path / "it" / "rows.csv", manifest, 0.3) == folder


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_sound_is_labelled_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: int) -> None:
    """`edgequilt run --input FILE.wav` resamples a tone and runs on it: a graph that takes means of halves tells."""
    nodes = [helper.make_node("Split", ["samples"], ["early", "late"], axis=1, num_outputs=2)]
    for name in ("early", "late"):
        nodes.append(helper.make_node("Abs", [name], [f"{name}.size"]))
        nodes.append(helper.make_node("ReduceMean", [f"{name}.size", "axis"], [f"{name}.mean"], keepdims=1))
    nodes.append(helper.make_node("Concat", ["early.mean", "late.mean"], ["logits"], axis=1))
    (tmp_path / "it").mkdir()
    graph = write_graph(
        tmp_path / "it" / "it.onnx",
        nodes,
        {"samples": ("float32", (1, 400))},
        {"logits": ("float32", (1, 2))},
        {"axis": np.array([1])},
    )
    bundle = seal(
        tmp_path / "it",
        [graph],
        [Tensor("samples", "float32", (1, 400))],
        [Tensor("logits", "float32", (1, 2))],
        labels=("early", "late"),
    )
    resealed(bundle, preprocess=Preprocess("tensors", (), {"sampling_rate": 8000}))
    tone = np.sin(np.arange(400 * rate // 8000) * 2 * np.pi * 500 / rate)
    tone[: len(tone) // 2] = 0
    path = write_wave(tmp_path / "it.wav", tone, rate)

    assert edgequilt.main(["run", str(tmp_path / "it"), "--input", str(path), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["labels"][0]["label"] == "late"
    np.testing.assert_allclose(found["outputs"]["logits"][0], [0, 2 / np.pi], atol=0.02)


def test_counting_rows_takes_no_memory_and_no_library(tmp_path: Path) -> None:
    """An agent's core counts a long file line by line, and texts, pictures and sounds without numpy and Pillow."""
    manifest = manifest_of(tmp_path)
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} " * 40, "label": "a"}) + "\n" for i in range(20_000)))
    assert count_data(path, manifest) == 20_000

    (tmp_path / "it" / "a").mkdir(parents=True)
    write_wave(tmp_path / "it" / "a" / "x.wav", np.zeros(20), 8000)
    probe = """
import sys, tracemalloc
from pathlib import Path
from edge.data.formats import _counted
from edge.data.wanted import Wanted
from wire.manifest import Tensor

inputs = (Tensor("x", "float32", (1, 400)),)
assert _counted(Path(sys.argv[1]), Wanted(("a",), "tensors", inputs), thorough=False) == 1
assert _counted(Path(sys.argv[2]), Wanted(("a",), "text"), thorough=False) == 20000
tracemalloc.start()  # in a process of its own: other threads of the tests would count
_counted(Path(sys.argv[2]), Wanted(("a",), "text"), thorough=False)
print(tracemalloc.get_traced_memory()[1])
print(sorted({"numpy", "PIL"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path / "it"), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    peak, modules = done.stdout.splitlines()
    assert (modules, done.stderr) == ("[]", "")
    assert int(peak) < 200_000 < path.stat().st_size / 10
