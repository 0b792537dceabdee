from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModel

from console.errors import UsageError
from export.features import find_features
from export.fold import freeze
from export.head import append_head
from export.sources.captured import Captured
from tests.export.runtime import Array, copy_of, features_of, pictures, run, text, worst

TOLERANCE = 1e-5


def torch_features(folder: Path, feeds: dict[str, Array]) -> Array:
    """Masked mean (or plain mean for pictures), torch's own normalize, times sqrt(D), in float64."""
    model = AutoModel.from_pretrained(folder).eval().double()
    tensors = {n: torch.from_numpy(a) for n, a in feeds.items()}
    with torch.no_grad():
        given = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
        hidden = model(**given).last_hidden_state
    mask = tensors.get("attention_mask", torch.ones(hidden.shape[:2])).double()
    pooled = torch.stack([h[m.bool()].mean(0) for h, m in zip(hidden, mask, strict=True)])
    unit = torch.nn.functional.normalize(pooled, dim=-1)
    return np.asarray((unit * hidden.shape[-1] ** 0.5).numpy(), np.float32)


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
def test_features_are_pooled_and_of_unit_mean_square(which: str, request: pytest.FixtureRequest) -> None:
    """Features equal torch's pooled and normalised states times sqrt(D); logits are features W + b."""
    captured = copy_of(request.getfixturevalue(which))
    feeds = pictures(3) if captured.modality == "image" else text(3, 9)
    if which == "captured_distilbert":
        del feeds["token_type_ids"]
    site = append_head(captured.model, features_of(captured), classes=5)
    drawn = np.random.default_rng(4)
    w = drawn.standard_normal((site.features, 5)).astype(np.float32)
    b = drawn.standard_normal(5).astype(np.float32)
    wanted = torch_features(request.getfixturevalue(which.replace("captured_", "") + "_folder"), feeds)
    for model in (captured.model, freeze(captured.model, 3, 9)):
        found = run(model, {**feeds, site.weight: w, site.bias: b})
        assert list(found) == ["features", "logits"]
        assert worst(found["features"], wanted) <= TOLERANCE
        assert worst(found["logits"], wanted @ w + b) <= TOLERANCE
        assert np.allclose(np.mean(found["features"] ** 2, axis=1), 1.0, atol=1e-5)


def test_a_head_that_nobody_feeds_says_nothing(captured_bert: Captured) -> None:
    """Weight and bias default to zero: all logits are 0, the features are there."""
    captured = copy_of(captured_bert)
    append_head(captured.model, features_of(captured), classes=4)
    found = run(freeze(captured.model, 2, 6), text(2, 6))
    assert np.array_equal(found["logits"], np.zeros((2, 4), np.float32))
    assert np.all(np.abs(found["features"]).sum(1) > 0)


def test_padding_does_not_count(captured_bert: Captured) -> None:
    """The same sentence with more padding behind it has the same features."""
    captured = copy_of(captured_bert)
    append_head(captured.model, features_of(captured), classes=2)
    short = text(1, 6)
    long = {name: np.pad(a, ((0, 0), (0, 5))) for name, a in short.items()}
    found = run(freeze(captured.model, 1, 6), short), run(freeze(captured.model, 1, 11), long)
    assert worst(found[1]["features"], found[0]["features"]) <= TOLERANCE


def test_an_example_without_tokens_is_zero_not_nan(captured_bert: Captured) -> None:
    """A row that only fills a batch has features of zero, survives simplification, and spoils no other row."""
    captured = copy_of(captured_bert)
    append_head(captured.model, features_of(captured), classes=2)
    frozen = freeze(captured.model, 2, 6)
    feeds = text(2, 6)
    feeds["attention_mask"][1] = 0
    for level in ("disable", "all"):
        found = run(frozen, feeds, level)["features"]
        assert np.array_equal(found[1], np.zeros_like(found[1]))
        assert np.all(np.isfinite(found[0]))
        assert np.any(found[0])


def test_the_gradient_of_an_example_without_tokens_is_zero(captured_bert: Captured) -> None:
    """A filling row of weight 0 leaves every gradient finite and equal to that of the batch without it."""
    from export.gradient.backward import LossSpec, build_backward
    from export.slots import insert_slots

    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "auto")
    append_head(captured.model, features_of(captured), classes=2)
    wanted = [name for site in sites for name in (site.a, site.b)]
    drawn = np.random.default_rng(8)
    adapters = {
        name: drawn.standard_normal((32, 2) if name.endswith("A") else (2, 32)).astype(np.float32) for name in wanted
    }
    adapters["head.weight"] = drawn.standard_normal((32, 2)).astype(np.float32)
    one, two = text(1, 6), text(2, 6)
    for name in two:
        two[name][0], two[name][1] = one[name][0], 0
    alone = {"labels": np.array([1]), "weights": np.array([1.0], np.float32)}
    filled = {"labels": np.array([1, 0]), "weights": np.array([1.0, 0.0], np.float32)}
    small, large = (
        build_backward(freeze(captured.model, batch, 6), wanted=wanted, loss=LossSpec()) for batch in (1, 2)
    )
    expected = run(small, {**one, **adapters, **alone})
    found = run(large, {**two, **adapters, **filled})
    for name in wanted:
        assert np.any(expected[f"grad.{name}"])
        assert worst(found[f"grad.{name}"], expected[f"grad.{name}"]) <= TOLERANCE


def test_what_is_no_output_is_refused(captured_bert: Captured) -> None:
    """The outputs that are there are named."""
    with pytest.raises(UsageError, match="output of .* found 'pooler'; it has last_hidden_state"):
        find_features(captured_bert, 6, "pooler")


def test_features_stay_the_only_large_output(captured_bert: Captured) -> None:
    """Hidden states are no output any more, so the runtime may free them."""
    model = captured_bert.model.clone()
    append_head(model, features_of(captured_bert), classes=2)
    frozen = freeze(model, 2, 6)
    assert [(o.name, list(o.shape or [])) for o in frozen.graph.outputs] == [("features", [2, 32]), ("logits", [2, 2])]
    assert all(o.dtype == ir.DataType.FLOAT for o in frozen.graph.outputs)
