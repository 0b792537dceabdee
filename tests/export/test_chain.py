"""Chains of real encoders against torch: what they compute, and every gradient, in one piece and in several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

from export.build import reports_of
from export.chain import Chain
from export.head import append_head
from export.prepare import Prepared
from export.slots import SlotSite, insert_slots
from export.sources.captured import Captured
from export.stage import Key, Stage, build_stage
from export.stage_checks import verify_stage
from export.stage_feeds import checking_values
from tests.export.runtime import copy_of, features_of

BATCH, SEQUENCE, CLASSES, RANK = 2, 9, 3, 4
BAR = 1e-5

ENCODERS = ("captured_bert", "captured_distilbert", "captured_vit")
CUTS = {"one segment": 0, "two segments": 1, "five segments": 4}


def prepared_from(captured: Captured, targets: str = "all-linear") -> Prepared:
    """Slots and head in a copy of a capture."""
    captured = copy_of(captured)
    sites = insert_slots(captured.model, targets)
    features = features_of(captured)
    head = append_head(captured.model, features, CLASSES)
    sequence = SEQUENCE if captured.modality == "text" else None
    return Prepared(captured, sites, head, CLASSES, sequence, ("fp32", "int8", "int4"), features=features)


def stage_of(prepared: Prepared, cuts: int, folder: Path, quant: str = "fp32", mode: str = "train") -> Stage:
    """Graphs with some cuts at even distances among the legal ones."""
    legal = prepared.cost(BATCH, mode).positions
    positions = tuple(legal[(i + 1) * len(legal) // (cuts + 1)] for i in range(cuts))
    return build_stage(prepared, Key(mode, quant, BATCH, positions), folder)


def in_torch(folder: Path, prepared: Prepared, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The original in float64 with adapters by hooks, pooled, classified and differentiated by autograd."""
    model = AutoModel.from_pretrained(folder).eval().double()
    modules = dict(model.named_modules())
    leaves: dict[str, torch.Tensor] = {}

    def beside(site: SlotSite) -> None:
        a, b = (torch.from_numpy(values[name]).double().requires_grad_() for name in (site.a, site.b))
        leaves.update({site.a: a, site.b: b})
        scale = float(values[site.scale])
        modules[site.module].register_forward_hook(lambda _m, xs, y: y + scale * (xs[0] @ a @ b))

    for site in prepared.sites:
        beside(site)
    inputs = {v.name: torch.from_numpy(values[v.name]) for v in prepared.captured.model.graph.inputs if v.name in READ}
    tokens = model(**{n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}).last_hidden_state
    mask = inputs.get("attention_mask", torch.ones(tokens.shape[:2]))[..., None].double()
    pooled = functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=1)
    features = pooled * tokens.shape[2] ** 0.5
    logits = (
        features @ torch.from_numpy(values["head.weight"]).double() + torch.from_numpy(values["head.bias"]).double()
    )
    each = functional.cross_entropy(logits, torch.from_numpy(values["labels"]), reduction="none", ignore_index=-100)
    loss = (each * torch.from_numpy(values["weights"]).double()).sum()
    loss.backward()
    found = {"features": features, "logits": logits, "loss": loss}
    out = {name: value.detach().numpy() for name, value in found.items()}
    return out | {f"grad.{name}": leaf.grad.numpy() for name, leaf in leaves.items() if leaf.grad is not None}


READ = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> tuple[Path, Prepared]:
    """An encoder's folder, and its graph with a slot beside every linear layer."""
    folder = request.getfixturevalue(request.param.replace("captured_", "") + "_folder")
    return folder, prepared_from(request.getfixturevalue(request.param))


@pytest.mark.parametrize("case", CUTS)
def test_values_and_gradients_against_torch(case: str, encoder: tuple[Path, Prepared], tmp_path: Path) -> None:
    """Features, logits, loss and the gradient of every slot are torch's, whatever the cuts.

    Gradients within 1e-5 of the largest entry of their tensor, or of a thousandth of the largest of all.
    """
    folder, prepared = encoder
    values = checking_values(prepared, BATCH, RANK)
    chain = Chain(stage_of(prepared, CUTS[case], tmp_path).links)
    got = chain.backward(chain.forward(values))
    expected = in_torch(folder, prepared, values)
    for name in ("features", "logits", "loss"):
        scale = max(1.0, np.abs(expected[name]).max())
        assert np.abs(got[name] - expected[name]).max() <= BAR * scale, name
    gradients = {name: value for name, value in expected.items() if name.startswith("grad.")}
    assert len(gradients) == 2 * len(prepared.sites)
    steepest = max(np.abs(value).max() for value in gradients.values())
    for name, value in gradients.items():
        scale = max(np.abs(value).max(), 1e-3 * steepest)
        assert np.abs(got[name] - value).max() <= BAR * scale, name


@pytest.mark.parametrize("case", CUTS)
def test_quantized_chains_pass_every_check(case: str, captured_bert: Captured, tmp_path: Path) -> None:
    """The chain in int8 states its loss, equals its dequantized twin, and its gradients are its own derivative."""
    prepared = prepared_from(captured_bert, "auto")
    stage = stage_of(prepared, CUTS[case], tmp_path, "int8")
    verify_stage(prepared, stage)
    checks = stage.checks
    assert checks["chain_error"] <= BAR
    assert 0.98 <= checks["feature_cosine"] < 1 - 1e-6
    assert 0 < checks["feature_relative_error"] < 0.2
    assert checks["dequantized_error"] <= BAR
    assert max(checks["node_error"].values()) <= BAR
    assert checks["nodes_judged"] >= len([r for r in reports_of(stage.pieces) if r.format == "int8"])
    assert "nodes_unjudged" not in checks
    with_slots = {piece.segment.name for piece in stage.pieces if piece.segment.adapters}
    assert checks["gradient_error"].keys() == with_slots | {f"the head in {stage.pieces[-1].segment.name}"}
    assert max(checks["gradient_error"].values()) <= 0.01


def test_segments_below_the_first_slot_have_no_backward_graph(captured_bert: Captured, tmp_path: Path) -> None:
    """With slots in the upper half only, the lower segments run forward and their boundary has no gradient."""
    stage = stage_of(prepared_from(captured_bert, r"layer\.3\.attention\.self\.query$"), 4, tmp_path)
    kinds = [sorted(piece.shipped) for piece in stage.pieces]
    assert kinds[0] == ["forward"]
    assert kinds[-1][0] == "backward"
    first = next(i for i, k in enumerate(kinds) if "backward" in k)
    assert stage.pieces[first].segment.differentiable == ()


@pytest.mark.parametrize("mode", ["serve", "train-forward"])
def test_forward_modes_have_no_backward_graph(mode: str, captured_bert: Captured, tmp_path: Path) -> None:
    """Serving and forward-only training ship graphs that run forward alone."""
    stage = stage_of(prepared_from(captured_bert), 1, tmp_path, mode=mode)
    assert len(stage.pieces) == 2
    assert all({"forward"} <= set(piece.shipped) <= {"forward", "serve"} for piece in stage.pieces)
