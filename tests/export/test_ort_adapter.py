"""onnxruntime's adapter files, through the command: the runtime itself is the judge."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

import edgequilt
from console.errors import BadData, StorageError, UsageError
from edge.runner import Runner
from export.ort_adapter import tensors_of
from tests.edge.bundles import MODEL, make_bundle
from tests.edge.test_adapted import stages
from tests.edge.test_gradients import pictures, random_adapter
from tests.export.converting import convert, same, two_segments, written
from wire.adapter import Adapter, read_adapter
from wire.bundle import MANIFEST, Bundle, open_bundle
from wire.manifest import Graph, to_bytes

Array = npt.NDArray[Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of two segments with slots of both kinds."""
    return two_segments(tmp_path)


def forward(bundle: Bundle, samples: list[Any], adapters: dict[str, ort.LoraAdapter]) -> dict[str, Array]:
    """The chain with plain sessions, every adapter of a segment active."""
    graphs: list[tuple[str, Graph]] = [
        (s.name, next(g for g in s.graphs if g.kind == "forward")) for s in bundle.manifest.segments
    ]
    values: dict[str, Array] = {
        "pixel_values": np.stack([(np.asarray(s, np.float32) / 255 - 0.5) / 0.5 for s in samples])[:, None]
    }
    for segment, graph in graphs:
        options, run = ort.SessionOptions(), ort.RunOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(bundle.path(graph.file), options, providers=["CPUExecutionProvider"])
        if segment in adapters:
            run.add_active_adapter(adapters[segment])
        names = [v.name for v in session.get_outputs()]
        fed = {v.name: values[v.name].astype(np.float32) for v in session.get_inputs()}
        values |= dict(zip(names, session.run(names, fed, run), strict=True))
    return values


def loaded(folder: Path) -> dict[str, ort.LoraAdapter]:
    """onnxruntime's adapters by segment."""
    out = {}
    for path in folder.glob("*.onnx_adapter"):
        out[path.stem] = ort.LoraAdapter()
        out[path.stem].Load(str(path))
    return out


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_an_active_adapter_is_one_that_is_fed(bundle: Bundle, rank: int, tmp_path: Path) -> None:
    """RunOptions.add_active_adapter gives what a board gives that feeds the arrays, head and biases too."""
    adapter = random_adapter(bundle.manifest, max(rank, 1))
    adapter = replace(adapter, lora={n: f.prefix(rank) for n, f in adapter.lora.items()})
    convert(written(adapter, tmp_path), bundle, "onnx_adapter", tmp_path / "out")
    samples = pictures(2)
    found, wanted = forward(bundle, samples, loaded(tmp_path / "out")), Runner(bundle).forward(samples, adapter)
    assert np.abs(wanted.features - Runner(bundle).forward(samples).features).max() > 0.05
    np.testing.assert_allclose(found["features"], wanted.features, atol=1e-6)
    np.testing.assert_allclose(found["logits"], wanted.logits, atol=1e-6)


def test_one_segment_has_one_file(tmp_path: Path) -> None:
    """Of a whole model, or where one segment alone has slots, --out is the file itself."""
    make_bundle(tmp_path / "bundle", segments=(2,))
    bundle = open_bundle(tmp_path / "bundle", None)
    adapter = random_adapter(bundle.manifest)
    convert(written(adapter, tmp_path), bundle, "onnx_adapter", tmp_path / "it.onnx_adapter")
    assert (tmp_path / "it.onnx_adapter").is_file()
    convert(tmp_path / "it.onnx_adapter", bundle, "edgequilt", tmp_path / "back")
    back = read_adapter((tmp_path / "back").read_bytes(), "back")
    same(back, adapter)
    assert back.head is not None
    assert adapter.head is not None
    np.testing.assert_array_equal(back.head.weight, adapter.head.weight)


def test_files_of_segments_come_back_as_one_adapter(bundle: Bundle, tmp_path: Path) -> None:
    """A folder of them is read whole; the verb is one of the command."""
    adapter = random_adapter(bundle.manifest)
    convert(written(adapter, tmp_path), bundle, "onnx_adapter", tmp_path / "out")
    more = ["--bundle", str(bundle.folder), "--to", "edgequilt", "--out", str(tmp_path / "back")]
    assert edgequilt.run(["adapter", "convert", str(tmp_path / "out"), *more]) == 0
    same(read_adapter((tmp_path / "back").read_bytes(), "back"), adapter)


def test_of_a_chain_every_stage_is_named(bundle: Bundle, tmp_path: Path) -> None:
    """An adapter of a whole model goes over the bundles of a chain to a file per segment, and comes back from them."""
    folders = []
    for at, stage in enumerate(stages(bundle)):
        folders.append(shutil.copytree(bundle.folder, tmp_path / f"stage{at}"))
        (folders[at] / MANIFEST).write_bytes(to_bytes(stage.manifest))
    adapter, more = random_adapter(bundle.manifest), ["--bundle", str(folders[1])]
    first = replace(bundle, folder=folders[0])
    convert(written(adapter, tmp_path), first, "onnx_adapter", tmp_path / "out", *more)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "segment0.onnx_adapter",
        "segment1.onnx_adapter",
    ]
    convert(tmp_path / "out", first, "edgequilt", tmp_path / "back", *more)
    same(read_adapter((tmp_path / "back").read_bytes(), "back"), adapter)
    with pytest.raises(BadData, match="name every stage"):
        convert(written(adapter, tmp_path), first, "onnx_adapter", tmp_path / "one")


def test_what_belongs_elsewhere_is_named(bundle: Bundle, tmp_path: Path) -> None:
    """Adapters of other models, files of other formats and places that are taken: everything wrong in one sentence."""
    adapter = random_adapter(bundle.manifest)
    other = Adapter("another", lora={"layer.7": adapter.lora["layer.0"], "layer.1": adapter.lora["layer.0"]})
    with pytest.raises(
        BadData, match="another; slot layer.7 is not in the model; slot layer.1 needs 5 x 5, not 16 x 5"
    ):
        convert(written(other, tmp_path), bundle, "onnx_adapter", tmp_path / "out")
    with pytest.raises(BadData, match="found an empty one"):
        convert(written(Adapter(MODEL), tmp_path), bundle, "onnx_adapter", tmp_path / "out")
    with pytest.raises(BadData, match="found 2 biases, which it cannot hold"):
        convert(written(adapter, tmp_path), bundle, "peft", tmp_path / "out")
    (tmp_path / "bad.onnx_adapter").write_bytes(b"nothing")
    with pytest.raises(BadData, match="expected onnxruntime's adapter format in .*bad.onnx_adapter"):
        convert(tmp_path / "bad.onnx_adapter", bundle, "edgequilt", tmp_path / "out")
    with pytest.raises(StorageError, match="expected an adapter file at .*absent"):
        convert(tmp_path / "absent.onnx_adapter", bundle, "edgequilt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="expected a file of each segment"):
        convert(tmp_path / "empty", bundle, "edgequilt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    with pytest.raises(StorageError, match="expected no adapter in"):
        convert(written(replace(adapter, bias={}), tmp_path), bundle, "peft", tmp_path / "peft")


def test_tensors_without_a_slot_are_named(bundle: Bundle, tmp_path: Path) -> None:
    """A file of onnxruntime's with a foreign name, or half of a slot, is refused by those names."""
    fmt = ort.AdapterFormat()
    odd = {"slot.layer.0.A": np.ones((16, 2), np.float32), "lora_A": np.ones(3, np.float32)}
    fmt.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in odd.items()})
    fmt.export_adapter(str(tmp_path / "odd.onnx_adapter"))
    with pytest.raises(
        BadData, match=r"slot layer.0 needs A \[in, r\], B \[r, out\] and scale \[\]; no slot takes lora_A"
    ):
        convert(tmp_path / "odd.onnx_adapter", bundle, "edgequilt", tmp_path / "out")


FLOOR = """
import sys, numpy as np, onnxruntime as ort
graph, adapter, folder = sys.argv[1:]
options, run, active = ort.SessionOptions(), ort.RunOptions(), ort.LoraAdapter()
options.log_severity_level = 3
active.Load(adapter)
run.add_active_adapter(active)
session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
fed = dict(np.load(folder + "/fed.npz"))
np.save(folder + "/found.npy", session.run(["features"], fed, run)[0])
"""


@pytest.mark.heavy
@pytest.mark.parametrize("rank", [1, 3])
def test_the_oldest_runtime_takes_the_same_file(rank: int, tmp_path: Path, floor_python: Path) -> None:
    """onnxruntime 1.23 reads what the newest wrote."""
    make_bundle(tmp_path / "bundle", segments=(2,))
    bundle = open_bundle(tmp_path / "bundle", None)
    adapter, samples = random_adapter(bundle.manifest, rank), pictures(2)
    convert(written(adapter, tmp_path), bundle, "onnx_adapter", tmp_path / "it.onnx_adapter")
    pixels = np.stack([(np.asarray(s, np.float32) / 255 - 0.5) / 0.5 for s in samples])[:, None]
    np.savez(tmp_path / "fed.npz", pixel_values=pixels.astype(np.float32))
    graph = next(g for g in bundle.manifest.segments[0].graphs if g.kind == "forward")
    arguments = [str(bundle.path(graph.file)), str(tmp_path / "it.onnx_adapter"), str(tmp_path)]
    subprocess.run([str(floor_python), "-c", FLOOR, *arguments], check=True, timeout=120)
    wanted = Runner(bundle).forward(samples, adapter).features
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), wanted, atol=1e-6)


def test_only_what_a_segment_takes_is_in_its_file(bundle: Bundle) -> None:
    """onnxruntime refuses names that a graph does not have: each file has its segment's only; rank 0 is left out."""
    adapter = random_adapter(bundle.manifest)
    adapter = replace(adapter, lora={**adapter.lora, "layer.0": adapter.lora["layer.0"].prefix(0)})
    found = tensors_of(bundle.manifest, adapter)
    assert set(found["segment0"]) == {"slot.layer.0.bias"}
    ours = {"slot.layer.1.A", "slot.layer.1.B", "slot.layer.1.scale", "slot.layer.1.bias", "head.weight", "head.bias"}
    assert set(found["segment1"]) == ours
