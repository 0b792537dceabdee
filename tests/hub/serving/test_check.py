"""The door for what devices learned: every way in which an update can be wrong, and the words for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from hub.making.model import model_of
from hub.serving.asked import Asked
from hub.serving.check import check
from tests.hub.bundles import FEATURES, LABELS, SLOTS, manifest
from wire.adapter import Adapter, to_bytes
from wire.files import digest
from wire.kinds.head import Head, Statistics, gather
from wire.kinds.lora import Lora
from wire.messages import Begin, Sender
from wire.scores import Score
from wire.scores import to_bytes as scores_to_bytes

MODEL = model_of(manifest(biases={"layer.0.query": 6})[0])
BASE, OTHER = "a" * 64, "b" * 64


def factors(rank: int = 2, **changed: Lora) -> dict[str, Lora]:
    """Factors for every slot."""
    made = {n: Lora(np.ones((i, rank), np.float32), np.ones((rank, o), np.float32), 2.0) for n, (i, o) in SLOTS.items()}
    return {**made, **changed}


def statistics(features: int = FEATURES, classes: int = len(LABELS)) -> Statistics:
    """Statistics of four rows of class 1."""
    return gather(np.ones((4, features), np.float32), np.ones(4, np.int64), classes)


def both(sums: Statistics) -> dict[int, Statistics]:
    """The same sums at the two ranks that the job asked for."""
    return {2: sums, 4: sums}


def attempt(kind: Any, data: bytes, samples: int = 4, **asked: Any) -> None:
    """Bring an update of four samples to the door of a hub of rank 4."""
    begin = Begin(Sender("barn", "x", 1), digest(data), kind, "r1-job-barn", 1, BASE, len(data), samples)
    check(data, begin, MODEL, Asked(4, (BASE, OTHER), (2, 4), **asked))


def adapter(**fields: Any) -> bytes:
    """An adapter file of our model that started from the right version."""
    return to_bytes(Adapter(**{"model": "tiny", "version": BASE, **fields}))


def scores(*versions: str, classes: int = 3) -> bytes:
    """Scores of some versions."""
    return scores_to_bytes([Score(v, 2, (4,) * classes, (3,) * classes) for v in versions])


GOOD = {
    "adapter": ("adapter", adapter(lora=factors())),
    "adapter at the hub's rank": ("adapter", adapter(lora=factors(4))),
    "statistics": ("statistics", adapter(statistics=both(statistics()))),
    "scores": ("scores", scores(BASE, OTHER)),
    "scores at two ranks": ("scores", scores(BASE, OTHER, BASE, OTHER)),
}


@pytest.mark.parametrize(("kind", "data"), GOOD.values(), ids=GOOD.keys())
def test_what_a_job_asked_for_comes_in(kind: str, data: bytes) -> None:
    """A right update of every kind passes."""
    attempt(kind, data)


SLOT = "layer.0.query"
ONES, WIDE = np.ones((8, 2), np.float32), np.ones((2, 7), np.float32)
BAD = {
    "not an adapter": ("adapter", b"\x08" + b"\0" * 40, "expected an edgequilt-adapter file"),
    "another model": ("adapter", adapter(model="huge", lora=factors()), "belongs to model 'huge' instead of tiny"),
    "another base": ("adapter", adapter(version=OTHER, lora=factors()), "says that it started from version 'bbbb"),
    "a slot missing": ("adapter", adapter(lora={SLOT: factors()[SLOT]}), "slot layer.1.value is missing"),
    "a slot too many": ("adapter", adapter(lora=factors(extra=factors()[SLOT])), "slot extra is not one of"),
    "another shape": (
        "adapter",
        adapter(lora={**factors(), SLOT: Lora(ONES, WIDE, 2.0)}),
        "slot layer.0.query is [8, 7] instead of [8, 6]",
    ),
    "a rank above the hub's": ("adapter", adapter(lora=factors(5)), "rank 5, the hub keeps 1 to 4"),
    "rank 0": ("adapter", adapter(lora=factors(0)), "rank 0, the hub keeps 1 to 4"),
    "not a number": (
        "adapter",
        adapter(lora={**factors(), SLOT: Lora(ONES * np.nan, np.ones((2, 6), np.float32), 2.0)}),
        "layer.0.query/lora/A is not finite",
    ),
    "absurdly large": (
        "adapter",
        adapter(lora={**factors(), SLOT: Lora(ONES * 1e30, np.ones((2, 6), np.float32), 2.0)}),
        "slot layer.0.query has entries above 1e+06",
    ),
    "a head among factors": (
        "adapter",
        adapter(lora=factors(), heads={0: Head(np.ones((5, 3), np.float32), np.ones(3, np.float32))}),
        "expected lora only, found another kind",
    ),
    "factors instead of statistics": (
        "statistics",
        adapter(lora=factors()),
        "statistics are of ranks [] instead of [2, 4]",
    ),
    "another number of features": (
        "statistics",
        adapter(statistics=both(statistics(features=4))),
        "sums of rank 4 are [3, 4] instead of [3, 5]",
    ),
    "another number of classes": (
        "statistics",
        adapter(statistics=both(statistics(classes=2))),
        "sums of rank 2 are [2, 5] instead of [3, 5]",
    ),
    "a rank too few": ("statistics", adapter(statistics={2: statistics()}), "of ranks [2] instead of [2, 4]"),
    "a negative Gram matrix": (
        "statistics",
        adapter(statistics=both(Statistics(np.ones(3), np.ones((3, 5)), -np.eye(5)))),
        "the Gram matrix of rank 2 has a negative diagonal",
    ),
    "a sum of no rows": (
        "statistics",
        adapter(statistics=both(Statistics(np.zeros(3), np.ones((3, 5)), np.eye(5)))),
        "a class without rows has a sum at rank 2",
    ),
    "scores that are not JSON": ("scores", b"\0", "expected scores as JSON in the scores of barn"),
    "a version not scored": ("scores", scores(BASE), "version bbbbbbbbbbbb is missing"),
    "a version too many": ("scores", scores(BASE, OTHER, "c" * 64), "version cccccccccccc was not asked for"),
    "more rows right under both than under one": (
        "scores",
        scores_to_bytes([Score(v, 2, (4,) * 3, (3,) * 3, (4,) * 3) for v in (BASE, OTHER)]),
        "none above its total",
    ),
    "scores over other classes": ("scores", scores(BASE, OTHER, classes=2), "expected counts of 3 classes"),
}


@pytest.mark.parametrize(("kind", "data", "words"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_said(kind: str, data: bytes, words: str) -> None:
    """Every fault is refused by the one door, in words that name it."""
    with pytest.raises(BadData) as caught:
        attempt(kind, data)

    assert words in str(caught.value)


HEAD = Head(np.ones((FEATURES, 3), np.float32), np.ones(3, np.float32))
ASKED: dict[str, Any] = {"kinds": ("lora", "bias"), "head": True}
BIAS = {SLOT: np.ones(6, np.float32)}


def trained(**fields: Any) -> bytes:
    """Factors, a bias and a head of four rows."""
    return adapter(**{"lora": factors(), "bias": BIAS, "heads": {2: HEAD}, "metadata": {"rows": "[3,0,1]"}, **fields})


def test_all_kinds_that_were_asked_for_come_in() -> None:
    """An update of factors, biases and a head passes where the job asked for them; a bias may be left out."""
    attempt("adapter", trained(), **ASKED)
    attempt("adapter", trained(bias={}), **ASKED)
    attempt("adapter", adapter(bias=BIAS), kinds=("bias",))


WRONG = {
    "a bias too long": (trained(bias={SLOT: np.ones(7, np.float32)}), ASKED, "bias of layer.0.query is [7] instead of"),
    "a bias of no place": (trained(bias={"extra": np.ones(6, np.float32)}), ASKED, "bias of extra is not one of"),
    "an absurd bias": (trained(bias={SLOT: np.full(6, 1e9, np.float32)}), ASKED, "has entries above 1e+06"),
    "a bias unasked": (adapter(lora=factors(), bias=BIAS), {}, "the bias of layer.0.query was not asked for"),
    "factors unasked": (trained(), {"kinds": ("bias",)}, "slot layer.0.query was not asked for"),
    "nothing": (adapter(), {"kinds": ("bias",)}, "it brings no bias"),
    "no head": (trained(heads={}), ASKED, "expected one head, found 0"),
    "two heads": (trained(heads={1: HEAD, 2: HEAD}), ASKED, "expected one head, found 2"),
    "a narrow head": (
        trained(heads={2: Head(HEAD.weight[:4], HEAD.bias)}),
        ASKED,
        "the head is [4, 3] instead of [5, 3]",
    ),
    "no rows": (trained(metadata={}), ASKED, "does not say of which of the 3 classes its 4 rows are"),
    "more rows than it has": (trained(metadata={"rows": "[9,0,1]"}), ASKED, "of which of the 3 classes its 4 rows"),
    "rows that are none": (trained(metadata={"rows": "[5,-1,0]"}), ASKED, "of which of the 3 classes its 4 rows"),
}


@pytest.mark.parametrize(("data", "asked", "words"), WRONG.values(), ids=WRONG.keys())
def test_other_kinds_go_through_the_same_door(data: bytes, asked: dict[str, Any], words: str) -> None:
    """What is wrong with a bias or a trained head, or was not asked for, is refused in words that name it."""
    with pytest.raises(BadData) as caught:
        attempt("adapter", data, **asked)

    assert words in str(caught.value)


def test_all_faults_are_said_at_once() -> None:
    """An update with three faults is refused with all three."""
    data = to_bytes(Adapter("huge", OTHER, lora={SLOT: factors(9)[SLOT]}))

    with pytest.raises(BadData) as caught:
        attempt("adapter", data, samples=0)

    for words in ("belongs to model", "rank 9", "layer.1.value is missing", "trained on no sample"):
        assert words in str(caught.value)


def test_a_half_holds_its_own_slots() -> None:
    """A front or a tail brings all slots that were asked of it, and no other."""
    one, other = SLOTS
    half = {one: factors()[one]}
    attempt("tail", adapter(lora=half), slots=frozenset({one}))
    with pytest.raises(BadData, match=f"slot {other} is not one of those that were asked of it"):
        attempt("tail", adapter(lora=factors()), slots=frozenset({one}))
    with pytest.raises(BadData, match=f"slot {other} is missing"):
        attempt("adapter", adapter(lora=half))
