"""A net that samples its own picture: gradients of its bundles, of one segment and of two, are torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.chain import Chain
from export import feeds
from export.prepare import Wanted, prepare
from tests.export.decoders import bundle
from tests.export.sampled import sampled, torch_loss

LABELS, BATCH = ("a", "b", "c"), 2


@pytest.mark.parametrize("affine", [False, True], ids=["places of a layer", "an affine map"])
def test_gradients_through_samples_are_torchs(tmp_path: Path, *, affine: bool) -> None:
    """Loss and every gradient agree with autograd, through the places and through the picture."""
    source = sampled(tmp_path / "net.onnx", "linear", affine=affine)
    wanted = Wanted(str(source), classes=len(LABELS), targets="all-linear", serve_graph=False)
    prepared = prepare(wanted, ("fp32",), ("train",), tmp_path / "source")
    assert prepared.head is not None
    shared = feeds.adapter(prepared.sites, 3, 1) | feeds.head(prepared.head, len(LABELS), 2)
    fed = {**prepared.samples(BATCH, 3)[0], **feeds.targets(BATCH, len(LABELS), 4)}
    loss, leaves, _ = torch_loss(fed["x"], fed["labels"], fed["weights"], shared, "bilinear", affine=affine)
    names = [name for name in leaves if not name.endswith(".scale")]
    true = {n: g.numpy() for n, g in zip(names, torch.autograd.grad(loss, [leaves[n] for n in names]), strict=True)}
    steepest = max(float(np.abs(g).max()) for g in true.values())

    for segments in (1, 2):
        made = bundle(
            prepared, segments, tmp_path / f"b{segments}", mode="train", batch=BATCH, labels=LABELS, verified=False
        )
        sums = Chain(made).gradients([fed], made.manifest.buckets[0].name, shared)

        assert sums.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert set(sums.by_input) == set(names)
        assert len(names) == 10
        for name, expected in true.items():
            assert np.abs(sums.by_input[name] - expected).max() <= 1e-5 * steepest, name
