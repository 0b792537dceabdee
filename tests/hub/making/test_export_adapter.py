"""A version as PEFT has it: names, transposes, alpha; and PEFT itself as the judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from console.errors import HubError, StorageError
from hub.making import versions
from hub.making.export_adapter import export_adapter
from tests.hub.bundles import LABELS, SLOTS
from tests.hub.world import World
from wire.adapter import read_adapter
from wire.kinds.head import pick


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A hub whose third version is released."""
    world = make_world()
    for kind in ("statistics", "train", "statistics"):
        world.run(kind)
    return world


@pytest.mark.parametrize("rank", [None, 2], ids=["whole", "prefix"])
def test_the_folder_holds_what_peft_reads(world: World, tmp_path: Path, rank: int | None) -> None:
    """Names, transposes and alpha are PEFT's: alpha / r times B A is the transposed product of the ladder's prefix."""
    found = export_adapter(world.hub.home, "released", rank, "tiny-encoder", tmp_path / "out")

    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    home = world.hub.home
    ladder = versions.read_ladder(versions.read_made(home.ledger.versions()[3]).version, home.blobs)
    r = rank or 16
    assert (found["version"], found["rank"], config["r"], config["lora_alpha"]) == (3, r, r, 2 * r)
    assert config["target_modules"] == [f"encoder.{name}" for name in SLOTS]
    assert len(tensors) == 4
    for name in SLOTS:
        prefix = f"base_model.model.encoder.{name}"
        a, b = tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"]
        found_product = config["lora_alpha"] / config["r"] * (b.astype(np.float64) @ a.astype(np.float64))
        np.testing.assert_allclose(found_product.T, ladder[name].prefix(r).product(), atol=1e-12)


def test_the_head_lies_beside_it(world: World, tmp_path: Path) -> None:
    """The head is written as torch's Linear has it, with the names of the classes."""
    export_adapter(world.hub.home, "3", None, "tiny-encoder", tmp_path / "out")

    home = world.hub.home
    made = versions.read_made(home.ledger.versions()[3]).version
    head = pick(versions.read_heads(made, home.blobs), made.rank)
    tensors = load_file(tmp_path / "out" / "head.safetensors")
    assert head is not None
    np.testing.assert_array_equal(tensors["weight"], head.weight.T)
    np.testing.assert_array_equal(tensors["bias"], head.bias)
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == list(LABELS)


def test_what_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    """An unknown version, a rank that the ladder does not have and a folder in use are refused with words."""
    home = world.hub.home
    with pytest.raises(HubError, match="expected a version among 0, 1, 2, 3, tip, released, found '7'"):
        export_adapter(home, "7", None, "tiny", tmp_path / "out")
    with pytest.raises(HubError, match="expected a rank of 1 to 16, found 17"):
        export_adapter(home, "3", 17, "tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_adapter(home, "3", None, "tiny", tmp_path / "out")
    with pytest.raises(StorageError, match="expected no adapter in .*, found one; choose another folder"):
        export_adapter(home, "3", None, "tiny", tmp_path / "out")


def test_an_adapter_file_holds_the_prefix(world: World, tmp_path: Path) -> None:
    """As safetensors, the file is of our own format: the first directions of each slot and the heads up to there."""
    out = tmp_path / "out.safetensors"
    export_adapter(world.hub.home, "released", 5, "", out, "safetensors")

    found = read_adapter(out.read_bytes(), "it")
    made = versions.read_made(world.hub.home.ledger.versions()[3])
    ladder = versions.read_ladder(made.version, world.hub.home.blobs)
    assert (found.model, found.version, found.rank, set(found.heads)) == ("tiny", made.digest, 5, {4})
    for name in SLOTS:
        np.testing.assert_array_equal(found.lora[name].product(), ladder[name].prefix(5).product())
    with pytest.raises(StorageError, match="expected no file at .*, found one; choose another name"):
        export_adapter(world.hub.home, "released", 5, "", out, "safetensors")


@pytest.mark.heavy
@pytest.mark.parametrize("rank", [None, 2], ids=["whole", "prefix"])
def test_peft_computes_the_same(world: World, tmp_path: Path, rank: int | None) -> None:
    """PEFT loads the folder into the original modules, and they compute x W + scale ((x A) B)."""
    import torch
    from peft import PeftModel

    class Layer(torch.nn.Module):
        def __init__(self, name: str, rows: int, columns: int) -> None:
            super().__init__()
            self.add_module(name, torch.nn.Linear(rows, columns))

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Module()
            layers = [Layer("query", 8, 6), Layer("value", 6, 8)]
            self.encoder.layer = torch.nn.ModuleList(layers)

        def forward(self, x: Any) -> Any:
            return self.encoder.layer[1].value(self.encoder.layer[0].query(x))  # type: ignore[index, union-attr]  # modules by name

    export_adapter(world.hub.home, "released", rank, "tiny-encoder", tmp_path / "out")
    home = world.hub.home
    ladder = versions.read_ladder(versions.read_made(home.ledger.versions()[3]).version, home.blobs, rank)
    model = Tiny().double()
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((5, 8))

    adapted = PeftModel.from_pretrained(model, str(tmp_path / "out"))
    with torch.no_grad():
        found = adapted(torch.from_numpy(x)).numpy()

    for name in SLOTS:
        weight, bias = state[f"encoder.{name}.weight"], state[f"encoder.{name}.bias"]
        x = x @ (weight.T + ladder[name].product()) + bias
    np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)
