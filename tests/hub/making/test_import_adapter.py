"""Adapters come in as versions: the same products, the same bytes again, and nothing that does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from console.errors import BadData, EdgequiltError, HubError
from hub.making import versions
from hub.making.export_adapter import export_adapter
from hub.making.import_adapter import import_adapter, made_from
from hub.store import registry
from tests.hub.bundles import FEATURES, LABELS, SLOTS, manifest, write_bundle
from tests.hub.world import World
from wire.adapter import Adapter, to_bytes
from wire.files import digest
from wire.keys import new_key, write_key
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.kinds.scales import Belongs, ScaleFactors
from wire.messages import Version

QUERY, VALUE = SLOTS


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A hub whose first version, with a head, is released, and whose second was trained."""
    world = make_world()
    for kind in ("statistics", "train"):
        world.run(kind)
    return world


def bare(folder: Path, rank: int = 16, **places: Any) -> registry.Home:
    """A hub of a rank, with its model and version 0, and nobody to talk to."""
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, folder)
    registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
    config = folder / "hub" / "hub.toml"
    config.write_text(config.read_text().replace("rank = 16", f"rank = {rank}"))
    home = registry.open_home(folder / "hub")
    registry.add_bundle(home, write_bundle(folder / "bundle", publisher, *manifest(**places)))
    return home


def factors(slot: str, rank: int, seed: int = 0, scale: float = 0.5) -> Lora:
    """Random factors of a slot."""
    g, (rows, columns) = np.random.default_rng(seed), SLOTS[slot]
    return Lora(
        g.normal(size=(rows, rank)).astype(np.float32), g.normal(size=(rank, columns)).astype(np.float32), scale
    )


def written(folder: Path, adapter: Adapter) -> Path:
    """An adapter file."""
    path = folder / "adapter.safetensors"
    path.write_bytes(to_bytes(adapter))
    return path


def tip(world: World) -> Version:
    """The version that work goes on from."""
    ledger = world.hub.home.ledger
    row = ledger.version(ledger.tip("tiny"))
    assert row is not None
    return versions.read_made(row).version


def products(world: World) -> dict[str, NDArray[Any]]:
    """What the tip adds to each weight."""
    return {name: w.product() for name, w in versions.read_ladder(tip(world), world.hub.home.blobs).items()}


def test_an_adapter_file_becomes_the_tip(world: World, tmp_path: Path) -> None:
    """The version computes what the file computes, a slot that the file lacks adds nothing, the head stays."""
    before, lora = tip(world), factors(QUERY, 3)

    found = world.ask("import", path=str(written(tmp_path, Adapter("tiny", lora={QUERY: lora}))))

    after, made = tip(world), products(world)
    expected = lora.scale * lora.a.astype(np.float64) @ lora.b.astype(np.float64)
    np.testing.assert_allclose(made[QUERY], expected, atol=1e-5)
    assert not made[VALUE].any()
    assert (after.version, after.rank, after.head) == (3, 16, before.head)
    assert after.parent == world.hub.home.ledger.versions()[2]["digest"]
    assert (found["version"], max(found["tails"].values())) == (3, pytest.approx(0.0, abs=1e-6))
    assert all(max(v.version for v in d.versions.values()) == 3 for d in _pumped(world))
    assert world.ask("status")["released"]["version"] == 1


def _pumped(world: World) -> list[Any]:
    world.network.pump()
    return list(world.devices.values())


def test_a_larger_rank_is_truncated_best(tmp_path: Path) -> None:
    """What the hub's rank cannot hold is cut off as numpy's SVD would, and the norm of it is said."""
    home = bare(tmp_path, rank=2)
    lora = factors(QUERY, 5)
    u, s, vt = np.linalg.svd(lora.scale * lora.a.astype(np.float64) @ lora.b.astype(np.float64))

    found = import_adapter(home, written(tmp_path, Adapter("tiny", lora={QUERY: lora})), 0.0)

    version = versions.read_made(home.ledger.versions()[1]).version
    made = versions.read_ladder(version, home.blobs)[QUERY].product()
    np.testing.assert_allclose(made, u[:, :2] * s[:2] @ vt[:2], atol=1e-5)
    assert found["tails"][QUERY] == pytest.approx(np.linalg.norm(s[2:]), rel=1e-6)
    home.ledger.close()


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two hubs make the same rungs of the same file."""
    path = written(tmp_path, Adapter("tiny", lora={name: factors(name, 4, seed) for seed, name in enumerate(SLOTS)}))
    homes = [bare(tmp_path / name) for name in ("one", "two")]

    made = [made_from(home, path).version for home in homes]

    assert made[0].rungs == made[1].rungs


@pytest.mark.parametrize("form", ["peft", "safetensors"])
def test_what_went_out_comes_in_again(world: World, tmp_path: Path, form: str) -> None:
    """A version that was exported and imported computes the same, with the same head (of PEFT: for every rank)."""
    before, old = products(world), versions.read_heads(tip(world), world.hub.home.blobs)
    out = tmp_path / "out"
    export_adapter(world.hub.home, "tip", None, "", out, form)

    world.ask("import", path=str(out))

    for name, product in products(world).items():
        np.testing.assert_allclose(product, before[name], atol=1e-5)
    new = versions.read_heads(tip(world), world.hub.home.blobs)
    assert set(new) == ({0} if form == "peft" else set(old))
    np.testing.assert_array_equal(new[0].weight, old[0].weight)


def test_a_head_alone_keeps_the_rungs(world: World, tmp_path: Path) -> None:
    """A file with a head only gives a version with the old rungs and that head."""
    rungs = tip(world).rungs
    head = Head(np.ones((FEATURES, len(LABELS)), np.float32), np.zeros(len(LABELS), np.float32))

    world.ask("import", path=str(written(tmp_path, Adapter("tiny", heads={2: head}))))

    assert tip(world).rungs == rungs
    assert set(versions.read_heads(tip(world), world.hub.home.blobs)) == {2}


def test_biases_and_scales_come_along(tmp_path: Path) -> None:
    """They come in, go out and come in again as they were; those that a file lacks stay those of the tip."""
    home = bare(tmp_path, biases={QUERY: 6, VALUE: 8}, scales={"w": (4, 2)})
    kind = {"w": Belongs("int4", digest(b"w"), (4, 1))}
    moved = ScaleFactors(kind, {"w": np.full((4, 1), 1.5, np.float32)})
    first = Adapter("tiny", bias={QUERY: np.full(6, 2, np.float32)}, scales=moved)
    second = Adapter("tiny", bias={VALUE: np.full(8, 3, np.float32)})

    for adapter in (first, second):
        import_adapter(home, written(tmp_path, adapter), 0.0)
    export_adapter(home, "tip", None, "", tmp_path / "out", "safetensors")
    import_adapter(home, tmp_path / "out", 0.0)

    version = versions.read_made(home.ledger.versions()[-1]).version
    biases, scales = versions.read_biases(version, home.blobs), versions.read_scales(version, home.blobs)
    assert {name: set(delta.tolist()) for name, delta in biases.items()} == {QUERY: {2.0}, VALUE: {3.0}}
    assert scales is not None
    assert set(scales.factors["w"].ravel().tolist()) == {1.5}
    with pytest.raises(BadData, match="found 2 biases and 1 moved scales, which it cannot hold"):
        export_adapter(home, "tip", None, "", tmp_path / "peft")
    home.ledger.close()


def _strange_head() -> Head:
    return Head(np.ones((2, 3), np.float32), np.zeros(3, np.float32))


def _strange_scales() -> ScaleFactors:
    return ScaleFactors({"w": Belongs("int4", "d" * 64, (4, 1))}, {"w": np.ones((4, 1), np.float32)})


WRONG = {
    "another model": (Adapter("other", lora={QUERY: factors(QUERY, 2)}), "it belongs to model 'other'"),
    "an unknown slot": (Adapter("tiny", lora={"layer.9": factors(QUERY, 2)}), "slot layer.9 is not one of the model's"),
    "another shape": (Adapter("tiny", lora={QUERY: factors(VALUE, 2)}), r"\[6, 8\] instead of \[8, 6\]"),
    "entries too large": (Adapter("tiny", lora={QUERY: factors(QUERY, 2, scale=1e7)}), "has entries above 1e"),
    "a bias": (Adapter("tiny", bias={QUERY: np.ones(6, np.float32)}), f"the bias of {QUERY} has no place"),
    "another head": (Adapter("tiny", heads={2: _strange_head()}), r"is \[2, 3\] instead of \[5, 3\]"),
    "strange scales": (Adapter("tiny", scales=_strange_scales()), "w"),
    "nothing": (Adapter("tiny"), "it holds nothing"),
}


@pytest.mark.parametrize(("adapter", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_named(tmp_path: Path, adapter: Adapter, words: str) -> None:
    """What is not of this model is refused with words, and makes no version."""
    home = bare(tmp_path)
    with pytest.raises(BadData, match=words):
        import_adapter(home, written(tmp_path, adapter), 0.0)
    assert len(home.ledger.versions()) == 1


def _not_finite(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({k: v * np.float32(np.nan) for k, v in tensors.items()}, path)


def _other_classes(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(["apple", "pear", "fig"]))


def _broken_head(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"\x08")


def _no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_not_finite, "is not finite"),
        (_other_classes, "expected the classes apple, pear, plum"),
        (_broken_head, "take the file away to go without a head"),
        (_no_config, "name a folder that PEFT wrote, or an adapter file"),
    ],
)
def test_a_spoilt_folder_is_refused(world: World, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    """A PEFT folder that is not whole, or of other classes, is refused with words."""
    export_adapter(world.hub.home, "tip", None, "", tmp_path / "out")
    spoil(tmp_path / "out")

    with pytest.raises(EdgequiltError, match=words):
        world.ask("import", path=str(tmp_path / "out"))
    assert tip(world).version == 2


def test_a_round_under_way_is_not_left_behind(world: World, tmp_path: Path) -> None:
    """While a round makes a version, nothing is imported."""
    for device in world.devices.values():
        device.jobs_held = True
    world.ask("open", kind="train")

    with pytest.raises(HubError, match="expected no open round that makes a version, found round 3"):
        world.ask("import", path=str(written(tmp_path, Adapter("tiny", lora={QUERY: factors(QUERY, 3)}))))
