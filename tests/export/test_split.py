"""Fronts on boards and one tail: what each bundle holds, and that a front before its tail is the whole model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from console.errors import BadData
from edge.steps import ordered
from export.chain import Chain, Graph, links_of
from export.cli_inspect import inspect
from tests.export.split_case import DEEP, LABELS, LAYERS, MICRO_BATCH, SHALLOW, TAIL, WIDTH, SplitBundles, split_bundles
from wire.bundle import Bundle
from wire.manifest import parse_manifest, to_bytes

BAR = 1e-5
RANK = 3


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """An MLP: a front of one layer, a front of two, and the tail."""
    return split_bundles(tmp_path_factory.mktemp("split") / "out")


def drawn(bundle: Bundle) -> dict[str, Any]:
    """Rows, an adapter, a head, labels and weights."""
    generator = np.random.default_rng(5)

    def array(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.5, shape).astype(np.float32)

    values: dict[str, Any] = {"x": array(MICRO_BATCH, WIDTH), "head.weight": array(WIDTH, len(LABELS))}
    values |= {"head.bias": array(len(LABELS)), "labels": np.array([2, 0]), "weights": np.array([1, 0.25], np.float32)}
    for slot in bundle.manifest.slots:
        values |= {slot.a: array(WIDTH, RANK), slot.b: array(RANK, WIDTH), slot.scale: np.array(0.5, np.float32)}
    return values


def in_torch(model: Path, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The layers of the ONNX file in float64, with adapters, a head and its loss, differentiated by autograd."""
    weights = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).double() for t in onnx.load(model).graph.initializer
    }
    learned = {
        name: torch.from_numpy(np.asarray(value)).double().requires_grad_()
        for name, value in values.items()
        if name.startswith(("slot.", "head."))
    }
    y = torch.from_numpy(values["x"]).double()
    for k in range(LAYERS):
        a, b, scale = (learned[f"slot.layer.{k}.{part}"] for part in ("A", "B", "scale"))
        y = torch.tanh(y @ weights[f"layer.{k}.weight"] + scale * (y @ a @ b) + weights[f"layer.{k}.bias"])
    features = functional.normalize(y, dim=1) * WIDTH**0.5
    logits = features @ learned["head.weight"] + learned["head.bias"]
    each = functional.cross_entropy(logits, torch.from_numpy(values["labels"]), reduction="none")
    loss = (each * torch.from_numpy(values["weights"]).double()).sum()
    loss.backward()
    found = {"logits": logits, "loss": loss} | {f"grad.{name}": leaf.grad for name, leaf in learned.items()}
    return {name: value.detach().numpy() for name, value in found.items() if value is not None}


def parted(front: Bundle, tail: Bundle, values: Mapping[str, Any]) -> dict[str, Any]:
    """A training step as two machines do it: all that goes from one to the other is what the manifests name."""
    split = front.manifest.split
    assert split is not None
    (border,) = split.borders
    other = tail.manifest.split.border_of(front.manifest.plan.device) if tail.manifest.split else None
    assert other is not None
    assert (other.tensors, other.gradients, other.inputs) == (border.tensors, border.gradients, border.inputs)
    board = Chain(links_of(front))
    made = board.forward(values)
    at = [segment.name for segment in tail.manifest.segments].index(other.segment)
    server = Chain(links_of(tail)[at:])
    up = {name: made[name] for name in border.tensors} | {name: values[name] for name in border.inputs}
    learned = {n: v for n, v in values.items() if n.startswith(("slot.", "head.")) or n in ("labels", "weights")}
    back = server.backward(server.forward({**up, **learned}))
    down = {f"grad.{name}": back[f"grad.{name}"] for name in border.gradients}
    own = board.backward({**made, **down})
    tails = {slot.name for slot in tail.manifest.slots} - {slot.name for slot in front.manifest.slots}
    kept = {n: v for n, v in back.items() if any(n.startswith(f"grad.slot.{name}.") for name in tails)}
    kept |= {n: v for n, v in back.items() if n in ("loss", "logits") or n.startswith("grad.head.")}
    return kept | {n: v for n, v in own.items() if n.startswith("grad.slot.")}


@pytest.mark.parametrize("which", [SHALLOW, DEEP])
def test_a_front_before_its_tail_computes_what_torch_computes(which: str, bundles: SplitBundles) -> None:
    """Loss, logits and the gradient of every adapter on either side, with only the border's tensors in between."""
    front = bundles.shallow if which == SHALLOW else bundles.deep
    values = drawn(bundles.tail)
    got, expected = parted(front, bundles.tail, values), in_torch(front.folder.parent / "mlp.onnx", values)
    wanted = {name for name in expected if not name.endswith(".scale")}
    assert wanted == got.keys() - {name for name in got if name.endswith(".scale")}
    steepest = max(np.abs(value).max() for name, value in expected.items() if name.startswith("grad."))
    for name in wanted:
        scale = steepest if name.startswith("grad.") else max(1.0, np.abs(expected[name]).max())
        assert np.abs(got[name] - expected[name]).max() <= BAR * scale, name


def test_the_gradient_of_features_is_enough(bundles: SplitBundles) -> None:
    """Who keeps labels and head gets the features, and gives their gradient: the tail's own gradients are the same."""
    manifest, values = bundles.tail.manifest, drawn(bundles.tail)
    returned, head = manifest.from_features, manifest.head
    assert returned is not None
    assert head is not None
    names = [tensor.name for tensor in returned.inputs]
    assert f"grad.{head.features_output}" in names
    assert not {"labels", "weights"} & set(names)
    chain = Chain(links_of(bundles.tail))
    made = chain.forward({**values, "head.weight": values["head.weight"] * 0})
    features = torch.from_numpy(made[head.features_output].astype(np.float64)).requires_grad_()
    weight, bias = (torch.from_numpy(values[name]).double() for name in ("head.weight", "head.bias"))
    each = functional.cross_entropy(features @ weight + bias, torch.from_numpy(values["labels"]), reduction="none")
    (each * torch.from_numpy(values["weights"]).double()).sum().backward()
    assert features.grad is not None
    given = {**made, f"grad.{head.features_output}": features.grad.numpy().astype(np.float32)}
    found = Graph(bundles.tail.path(returned.file), returned.options)(given)
    expected = in_torch(bundles.tail.folder.parent / "mlp.onnx", values)
    last = manifest.segments[-1]
    assert {name for name in found if name.startswith("grad.slot.")} == {
        f"grad.{name}" for slot in manifest.slots if slot.segment == last.name for name in (slot.a, slot.b)
    }
    assert {f"grad.{name}" for name in last.differentiable} <= found.keys()
    for name in (name for name in found if name in expected):
        assert np.abs(found[name] - expected[name]).max() <= BAR * max(np.abs(v).max() for v in expected.values()), name
    assert all(bundle.manifest.from_features is None for bundle in bundles.fronts)


def test_each_bundle_says_what_it_is(bundles: SplitBundles) -> None:
    """One model, one split: fronts name their own border and their tail, the tail the borders of all."""
    manifests = [bundle.manifest for bundle in (*bundles.fronts, bundles.tail)]
    splits = [manifest.split for manifest in manifests]
    assert all(split is not None for split in splits)
    assert [split.role for split in splits if split] == ["front", "front", "tail"]
    assert {(split.id, split.tail) for split in splits if split} == {(splits[0].id if splits[0] else "", TAIL)}
    assert len({manifest.model.id for manifest in manifests}) == 1
    assert [manifest.plan.device for manifest in manifests] == [SHALLOW, DEEP, TAIL]
    assert {manifest.plan.micro_batch for manifest in manifests} == {MICRO_BATCH}
    assert [[border.devices for border in split.borders] for split in splits if split] == [
        [(SHALLOW,)],
        [(DEEP,)],
        [(SHALLOW,), (DEEP,)],
    ]
    assert all(manifest.labels == LABELS for manifest in manifests)  # a board's rows are labelled there
    assert [manifest.head is not None for manifest in manifests] == [False, False, True]
    assert [manifest.chain for manifest in manifests] == [None, None, None]
    for manifest in manifests:
        assert parse_manifest(to_bytes(manifest)) == manifest


def test_fronts_hold_their_part_only_and_the_tail_everything(bundles: SplitBundles) -> None:
    """Slots and files: a front has those before its border, the tail has all of them and a cut at every border."""
    names = [[slot.name for slot in bundle.manifest.slots] for bundle in (*bundles.fronts, bundles.tail)]
    assert names == [[f"layer.{k}" for k in range(count)] for count in (1, 2, LAYERS)]
    assert [len(bundle.manifest.segments) for bundle in (*bundles.fronts, bundles.tail)] == [1, 1, 3]
    for bundle in (*bundles.fronts, bundles.tail):
        on_disk = {path.name for path in bundle.folder.iterdir()} - {"manifest.json", "manifest.sig"}
        assert {file.path for file in bundle.manifest.files} == on_disk
        assert all({"forward", "backward"} <= {g.kind for g in s.graphs} for s in bundle.manifest.segments)
    weights = [sum(f.bytes for f in b.manifest.files if "weights" in f.path) for b in (*bundles.fronts, bundles.tail)]
    assert weights[0] < weights[1] < weights[2]


def test_the_axis_of_the_features_is_known(bundles: SplitBundles) -> None:
    """A head of a board's own goes on a tensor of the border whose gradient the front takes."""
    for bundle in bundles.fronts:
        split = bundle.manifest.split
        assert split is not None
        (border,) = split.borders
        made = {t.name: t.shape for g in bundle.manifest.segments[-1].graphs for t in g.outputs}
        assert border.features in border.gradients
        assert made[border.features][border.features_axis] == WIDTH


def test_a_front_alone_is_not_run(bundles: SplitBundles) -> None:
    """Its values would be those of a border; the tail's bundle is the whole model, and is run as such."""
    with pytest.raises(BadData, match="found the front gate, .* run the bundle of hall"):
        ordered([bundles.shallow])
    assert ordered([bundles.tail]) == [bundles.tail]


def test_a_front_is_told_in_words(bundles: SplitBundles, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` says where a front ends and who goes on, and of the tail behind whom."""
    assert inspect([str(bundles.deep.folder)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"front of split-\w+, up to unit 12 \(barn\); its tail is hall", told)
    assert re.search(r"border12\.0 .* front0 +hall", told)
    assert inspect([str(bundles.tail.folder)]) == 0
    assert re.search(r"tail of split-\w+, behind unit 6 \(gate\), unit 12 \(barn\)", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segment": "elsewhere"}, "is in unknown segment 'elsewhere'"),
        ({"tensors": ("other",)}, r"has the tensors \['other'\]"),
        ({"gradients": ("other",)}, "names other, which do not cross there"),
        ({"features": "other"}, "names other, which do not cross there"),
    ],
)
def test_a_border_that_is_not_there_is_refused(change: dict[str, Any], words: str, bundles: SplitBundles) -> None:
    """A manifest whose border no segment has contradicts itself, in a front and in a tail."""
    for bundle in (bundles.shallow, bundles.tail):
        split = bundle.manifest.split
        assert split is not None
        broken = replace(split, borders=(replace(split.borders[0], **change), *split.borders[1:]))
        with pytest.raises(BadData, match=words):
            parse_manifest(to_bytes(replace(bundle.manifest, split=broken)))
