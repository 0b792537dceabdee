"""onnxruntime's adapter files and PEFT's folders, through the command: the runtime and PEFT itself are the judges."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from safetensors.numpy import load_file, save_file

import edgequilt
from console.errors import BadData, StorageError, UsageError
from edge.runner import Runner
from export.cli_adapter import main
from export.ort_adapter import tensors_of
from tests.edge.bundles import MODEL, make_bundle
from tests.edge.test_gradients import pictures, random_adapter
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import Bundle, open_bundle
from wire.kinds.lora import Lora
from wire.manifest import Graph
from wire.peft import files_of, read_peft

Array = npt.NDArray[Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of two segments with slots of both kinds."""
    make_bundle(tmp_path / "bundle", segments=(1, 1), biases=True, serve=True)
    return open_bundle(tmp_path / "bundle", None)


def written(adapter: Adapter, folder: Path) -> Path:
    """An adapter as a file of ours."""
    path = folder / "adapter.safetensors"
    path.write_bytes(to_bytes(adapter))
    return path


def convert(source: Path, bundle: Bundle, to: str, out: Path, *more: str) -> None:
    """The command."""
    assert main(["convert", str(source), "--bundle", str(bundle.folder), "--to", to, "--out", str(out), *more]) == 0


def same(one: Adapter, other: Adapter) -> None:
    """Two adapters hold the same numbers."""
    assert one.lora.keys() == other.lora.keys()
    assert one.bias.keys() == other.bias.keys()
    for name, factors in one.lora.items():
        np.testing.assert_array_equal(factors.a, other.lora[name].a)
        np.testing.assert_array_equal(factors.b, other.lora[name].b)
        assert factors.scale == pytest.approx(other.lora[name].scale)
    for name, delta in one.bias.items():
        np.testing.assert_array_equal(delta, other.bias[name])


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


def test_peft_and_back(tmp_path: Path) -> None:
    """Ranks and scales of their own per slot survive PEFT's patterns, and PEFT computes what the board computes."""
    from peft import PeftModel

    make_bundle(tmp_path / "bundle", segments=(2,))
    bundle = open_bundle(tmp_path / "bundle", None)
    adapter = random_adapter(bundle.manifest, 3)
    factors = adapter.lora["layer.1"]
    adapter = replace(adapter, lora={**adapter.lora, "layer.1": Lora(factors.a[:, :2], factors.b[:2], 0.25)}, heads={})
    convert(written(adapter, tmp_path), bundle, "peft", tmp_path / "peft")
    convert(tmp_path / "peft", bundle, "edgequilt", tmp_path / "back")
    same(read_adapter((tmp_path / "back").read_bytes(), "back"), adapter)
    net: Any = torch.nn.Module()
    net.layer = torch.nn.ModuleList([torch.nn.Linear(16, 5, bias=False), torch.nn.Linear(5, 5, bias=False)])
    before = [layer.weight.detach().numpy().astype(np.float64) for layer in net.layer]
    adapted = PeftModel.from_pretrained(net, str(tmp_path / "peft")).merge_and_unload()
    for k, weight in enumerate(before):
        wanted = weight.T + adapter.lora[f"layer.{k}"].product()
        np.testing.assert_allclose(adapted.layer[k].weight.detach().numpy().T, wanted, atol=1e-5)


class Place:
    """A slot beside a convolution."""

    name = module = "features.0"
    features_in, features_out = 12, 5

    def __init__(self, groups: int = 1) -> None:
        self.window, self.groups = (3, 2, 2), groups


def test_a_convolution_goes_to_peft_and_back(tmp_path: Path) -> None:
    """lora_A is [r, C, kh, kw], lora_B [out, r, 1, 1], as PEFT's own layer has them; a grouped one is refused."""
    from peft import LoraConfig, get_peft_model

    drawn = np.random.default_rng(3)
    lora = Lora(drawn.normal(size=(12, 2)).astype(np.float32), drawn.normal(size=(2, 5)).astype(np.float32), 0.5)
    for name, data in files_of([Place()], {"features.0": lora}, "net").items():
        (tmp_path / name).write_bytes(data)
    net: Any = torch.nn.Module()
    net.features = torch.nn.ModuleList([torch.nn.Conv2d(3, 5, 2)])
    shapes = {
        n.replace(".default", ""): tuple(p.shape)
        for n, p in get_peft_model(net, LoraConfig(r=2, target_modules=["features.0"])).named_parameters()
        if "lora" in n
    }
    assert {n: t.shape for n, t in load_file(tmp_path / "adapter_model.safetensors").items()} == shapes
    back = read_peft(tmp_path, [Place()])["features.0"]
    np.testing.assert_array_equal(back.a, lora.a)
    np.testing.assert_array_equal(back.b, lora.b)
    with pytest.raises(BadData, match="found the grouped convolution features.0, whose LoRA PEFT defines otherwise"):
        files_of([Place(groups=3)], {"features.0": lora}, "net")


def test_peft_of_a_task_model_is_found_by_the_end_of_its_paths(bundle: Bundle, tmp_path: Path) -> None:
    """A PEFT of a classifier says `bert.layer.0`; with rsLoRA its scale is alpha over the root of the rank."""
    adapter = random_adapter(bundle.manifest, 4)
    files = files_of(bundle.manifest.slots_of("lora"), adapter.lora, "it")
    config = json.loads(files["adapter_config.json"]) | {"use_rslora": True}
    (tmp_path / "adapter_model.safetensors").write_bytes(files["adapter_model.safetensors"])
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    moved = {name.replace("model.layer", "model.bert.layer"): tensor for name, tensor in tensors.items()}
    save_file(moved, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = read_peft(tmp_path, bundle.manifest.slots_of("lora"))
    assert found.keys() == adapter.lora.keys()
    assert found["layer.0"].scale == pytest.approx(adapter.lora["layer.0"].scale * 4 / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True, "bias": "all"}, "use_dora is True; bias is 'all'; convert it with PEFT first"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"lora_alpha": "much"}, "alpha is 'much'"),
    ],
)
def test_more_than_lora_is_refused(change: dict[str, Any], words: str, bundle: Bundle, tmp_path: Path) -> None:
    """Whatever would change the sum beside A and B is named, all of it."""
    files = files_of(bundle.manifest.slots_of("lora"), random_adapter(bundle.manifest).lora, "it")
    config = json.loads(files["adapter_config.json"]) | change
    (tmp_path / "adapter_model.safetensors").write_bytes(files["adapter_model.safetensors"])
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadData, match=words):
        convert(tmp_path, bundle, "edgequilt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
