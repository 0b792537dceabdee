"""What judges sum over calls: what fills up counts nothing, and what is no number agrees with nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from console.errors import VerificationError
from export.study import judge
from export.study.calls import NOTHING, Call
from export.study.judge import Classes, Features, Tokens
from export.study.rows import Share
from export.study.temperatures import Temperatures
from quant.variants import Flip

NAMES = ["fp32", "a", "b"]


def call(items: int, targets: list[int], **feeds: Any) -> Call:
    """A call with what a judge looks at."""
    return Call({name: np.asarray(array) for name, array in feeds.items()}, items, np.array(targets, np.int64))


def test_features_are_of_marked_tokens_and_of_items_that_count() -> None:
    """The cosine is that of what is marked, of each item by itself; the last item of the call only fills it up."""
    mask = [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    exact = np.random.default_rng(0).standard_normal((3, 3, 4)).astype(np.float32)
    other = exact.copy()
    other[0, 2], other[1, 1:], other[2] = 9.0, -9.0, 5.0
    near = other.copy()
    near[1, 0] = [1.0, 2.0, 3.0, 4.0]
    found = Features(NAMES, ["y"])
    found.add(call(2, [NOTHING] * 2, attention_mask=mask), {"fp32": {"y": exact}, "a": {"y": other}, "b": {"y": near}})
    assert found.of("a").cosine == pytest.approx(1.0)
    e, n = exact[1, 0].astype(float), near[1, 0].astype(float)
    angle = float(e @ n / np.sqrt((e @ e) * (n @ n)))
    assert found.of("b").least_cosine == pytest.approx(angle)
    assert found.of("b").cosine == pytest.approx((1 + angle) / 2)


def test_several_outputs_are_judged_by_the_worst() -> None:
    """Of an item with two outputs the lesser cosine counts; an output of a lone number as well."""
    found = Features(NAMES, ["y", "z"])
    exact = {"y": np.array([[1.0, 0.0]]), "z": np.array(2.0)}
    turned = {"y": np.array([[1.0, 1.0]]), "z": np.array(3.0)}
    found.add(call(1, [NOTHING], x=[[0.0]]), {"fp32": exact, "a": turned, "b": {**exact, "z": np.array(-1.0)}})
    assert found.of("a").least_cosine == pytest.approx(np.sqrt(0.5))
    assert found.of("b").least_cosine == -1.0


def test_what_is_no_number_agrees_with_nothing() -> None:
    """NaN in a format's outputs is counted: as a wrong class, as an item without a cosine, as a token that differs."""
    exact = np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)
    broken = np.array([[np.nan, 2.0], [3.0, 1.0]], np.float32)
    outputs = {"fp32": {"y": exact}, "a": {"y": broken}, "b": {"y": exact[:, ::-1]}}
    classes = Classes(NAMES, "y")
    classes.add(call(2, [1, NOTHING], x=exact), outputs)
    found = classes.of("a")
    assert (found.accuracy, found.agreement, found.not_numbers) == (Share(0, 1), Share(1, 2), 1)
    assert (classes.of("fp32").accuracy, classes.of("b").agreement) == (Share(1, 1), Share(0, 2))
    features = Features(NAMES, ["y"])
    features.add(call(2, [NOTHING] * 2, x=exact), outputs)
    assert features.of("a").cosine == pytest.approx(1.0)
    assert features.of("a").not_numbers == 1
    tokens = Tokens(NAMES, [1.0])
    tokens.add(call(1, [1], x=[[0]]), {name: {"logits": values["y"][None]} for name, values in outputs.items()})
    assert (tokens.of("a").perplexity, tokens.of("a").temperatures) == (None, ())
    assert (tokens.of("a").agreement, tokens.of("a").not_numbers) == (Share(0, 1), 1)
    assert tokens.of("fp32").perplexity == pytest.approx(1 + np.exp(-1.0))


def test_items_that_change_their_class_are_named_by_their_place() -> None:
    """Over two calls, with an item that is no number and one that only fills the batch; margins are of the rest."""
    classes = Classes(NAMES, "y")
    exact = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]], np.float32)
    first = np.array([[np.nan, 2.0], [1.0, 1.5], [9.0, 0.0]], np.float32)
    outputs = {"fp32": {"y": exact}, "a": {"y": first}, "b": {"y": exact}}
    classes.add(call(2, [NOTHING] * 2, x=exact), outputs)
    classes.add(call(1, [NOTHING], x=exact), outputs | {"a": {"y": exact[:, ::-1]}})
    found = classes.of("a").decided
    assert found is not None
    assert found.samples == 2
    assert found.flips == (Flip(1, 0, 1, 2.0, 0.5), Flip(2, 1, 0, 1.0, 1.0))
    assert (found.exact_margins[2], found.variant_margins[2]) == (1.5, 0.75)
    same = classes.of("b").decided
    assert same is not None
    assert (same.samples, same.flips) == (3, ())
    assert classes.of("fp32").decided is None


def test_fp32_must_be_numbers() -> None:
    """With nothing to compare with there is no study."""
    found = Features(NAMES, ["y"])
    with pytest.raises(VerificationError, match="found NaN or infinity in y; is the input real"):
        found.add(call(1, [NOTHING], x=[[0.0]]), {"fp32": {"y": np.array([[np.inf]])}})


def test_large_vocabularies_are_compared_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third token of all calls together, where there is time for a third; perplexity is of all of them."""
    monkeypatch.setattr(judge, "MOST_ENTRIES", 7 * 5 * len(NAMES) // 3 + 1)
    drawn = np.random.default_rng(0)
    windows = [(count, {n: drawn.standard_normal((count, 5)).astype(np.float32) for n in NAMES}) for count in (2, 4, 1)]
    found, whole = Tokens(NAMES, [0.5], 7), Tokens(NAMES, [0.5])
    chosen = Temperatures(NAMES, [0.5])
    targets = np.array([0, 1, 2, 3, 4, 0, 1])
    at = 0
    for count, logits in windows:
        one = call(1, targets[at : at + count].tolist(), x=[[0]])
        for tokens in (found, whole):
            tokens.add(one, {name: {"logits": values[None]} for name, values in logits.items()})
        kept = [i for i in range(count) if (at + i) % 3 == 0]
        chosen.add(logits["fp32"][kept], {n: v[kept] for n, v in logits.items()}, one.targets[kept])
        at += count
    assert (found.every, whole.every) == (3, 1)
    assert found.of("a").temperatures == chosen.of("a")
    assert found.of("a").perplexity == whole.of("a").perplexity
