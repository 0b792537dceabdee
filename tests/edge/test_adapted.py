"""`edgequilt run` and its chains with an adapter: whole models, and stages that each have slots of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from edge.arrays import write_arrays
from edge.cli_run import main
from edge.steps import Steps
from tests.edge.bundles import MODEL, make_bundle, make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter
from wire.adapter import Adapter, to_bytes
from wire.bundle import Bundle, open_bundle
from wire.inputs import inputs_of, joined, places_of
from wire.manifest import Chain


def whole(folder: Path) -> Bundle:
    """A bundle of two segments with slots of both kinds, and graphs without."""
    make_bundle(folder / "whole", segments=(1, 1), biases=True, serve=True)
    return open_bundle(folder / "whole", None)


def stages(bundle: Bundle) -> list[Bundle]:
    """The same as two bundles of a chain, a segment each; the head is in the second."""
    m, out = bundle.manifest, []
    for at, segment in enumerate(m.segments):
        part = replace(
            m,
            segments=(segment,),
            slots=tuple(slot for slot in m.slots if slot.segment == segment.name),
            head=m.head if at else None,
            chain=Chain("pair", at, ("a", "b"), "fewest"),
        )
        out.append(replace(bundle, manifest=part))
    return out


def given(count: int = 2) -> dict[str, Any]:
    """The model's input."""
    return {"pixel_values": np.asarray(pixels(pictures(count)), np.float32).reshape(count, 1, 4, 4)}


def same_as_oracle(steps: Steps, adapter: Adapter) -> None:
    """Features and logits are torch's."""
    found, oracle, rows = steps.run(given()), Oracle(make_weights(2), adapter), pixels(pictures(2))
    np.testing.assert_allclose(found["features"], oracle.features(rows).detach(), atol=1e-6)
    np.testing.assert_allclose(found["logits"], oracle.logits(rows).detach(), atol=1e-5)


@pytest.mark.parametrize("split", [False, True])
def test_every_slot_of_a_chain_is_fed(tmp_path: Path, split: bool) -> None:
    """An adapter of the whole model reaches the slots and the head wherever they are."""
    bundle = whole(tmp_path)
    bundles: Sequence[Bundle] = stages(bundle) if split else [bundle]
    full = random_adapter(bundle.manifest)
    for adapter in (full, replace(full, lora={}), replace(full, bias={})):
        same_as_oracle(Steps(bundles, adapter=adapter), adapter)


def test_a_head_alone_runs_without_slots(tmp_path: Path) -> None:
    """No forward graph is opened while no layer changes, and the head is fed to the other all the same."""
    bundle = whole(tmp_path)
    alone = replace(random_adapter(bundle.manifest), lora={}, bias={})
    for path in bundle.folder.glob("*.forward.*.onnx"):
        path.unlink()
    same_as_oracle(Steps([bundle], adapter=alone), alone)


def test_one_stage_is_not_the_model(tmp_path: Path) -> None:
    """An adapter of the whole does not go on one of its stages; two of one stage are no chain; what to do is said."""
    first, second = (bundle.manifest for bundle in stages(whole(tmp_path)))
    adapter = random_adapter(joined([first, second]))
    with pytest.raises(BadData, match=r"slot layer.1 is not in the model.*; slots of a chain .* name every stage"):
        inputs_of(first, adapter)
    with pytest.raises(BadData, match="found one of them twice; name every stage of one export once"):
        joined([first, first])
    other = replace(second, model=replace(second.model, id="other"))
    with pytest.raises(BadData, match="found models tiny and other"):
        joined([first, other])


def test_a_bundle_with_some_slots_takes_its_own_of_a_version(tmp_path: Path) -> None:
    """Of the adapter of a version, which has all slots, a part of the model is fed those that it has, unchanged."""
    first, second = (bundle.manifest for bundle in stages(whole(tmp_path)))
    both = joined([first, second])
    adapter = random_adapter(both)

    feeds = [inputs_of(part, places_of(part, adapter)) for part in (first, second)]

    together, heads = {**feeds[0], **feeds[1]}, {both.head.weight, both.head.bias} if both.head else set()
    assert together.keys() == inputs_of(both, adapter).keys()
    assert feeds[0].keys() & feeds[1].keys() <= heads
    wanted = inputs_of(both, adapter)
    assert all(np.array_equal(value, wanted[name]) for name, value in together.items())
    assert places_of(both, adapter) is adapter


def test_the_command_takes_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--adapter` changes what `edgequilt run` answers as torch says; one of another model is refused."""
    bundle = whole(tmp_path)
    adapter = random_adapter(bundle.manifest)
    write_arrays(tmp_path / "in.npz", given())
    (tmp_path / "a.safetensors").write_bytes(to_bytes(adapter))
    (tmp_path / "b.safetensors").write_bytes(to_bytes(replace(adapter, model="other")))
    asked = [str(bundle.folder), "--input", str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz"), "--adapter"]
    assert main([*asked, str(tmp_path / "a.safetensors")]) == 0
    capsys.readouterr()
    wanted = Oracle(make_weights(2), adapter).features(pixels(pictures(2))).detach()
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["features"], wanted, atol=1e-6)
    with pytest.raises(BadData, match=f"expected an adapter for {MODEL}, but it belongs to model other"):
        main([*asked, str(tmp_path / "b.safetensors")])
