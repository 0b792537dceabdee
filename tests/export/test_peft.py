"""PEFT's folders, through the command: PEFT itself is the judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from console.errors import BadData
from tests.edge.bundles import make_bundle
from tests.edge.test_gradients import random_adapter
from tests.export.converting import convert, same, two_segments, written
from wire.adapter import read_adapter
from wire.bundle import Bundle, open_bundle
from wire.kinds.lora import Lora
from wire.peft import files_of, read_peft


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of two segments with slots of both kinds."""
    return two_segments(tmp_path)


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
