"""Thin updates at the hub's door: what a job asked for becomes whole factors, anything else is refused with words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, UsageError
from hub.making.model import model_of
from hub.making.recipe import Recipe, chosen, fits
from hub.serving.asked import Asked
from hub.serving.check import adapter_of
from tests.hub.bundles import SLOTS, manifest
from wire.adapter import Adapter, to_bytes
from wire.files import digest
from wire.kinds.lora import Lora
from wire.kinds.thin_file import Thin
from wire.messages import Begin, Sender
from wire.thin.coding import rebuilt, thinned
from wire.thin.table import codec_of

MODEL = model_of(manifest(biases={"layer.0.query": 6})[0])
BASE = "a" * 64


def started(rank: int = 2) -> Adapter:
    """What a board of a rank was sent: factors; the version has no changes of biases yet."""
    g = np.random.default_rng(0)
    shapes = {n: ((i, rank), (rank, o)) for n, (i, o) in SLOTS.items()}
    lora = {
        n: Lora(g.standard_normal(a).astype(np.float32), g.standard_normal(b).astype(np.float32), 2.0)
        for n, (a, b) in shapes.items()
    }
    return Adapter("tiny", BASE, lora)


def update(codec: str = "int8", rank: int = 2) -> tuple[Adapter, Adapter]:
    """A thin update of factors and a bias, and what a board learned."""
    start = started(rank)
    moved = {n: Lora(w.a + np.float32(0.01), w.b - np.float32(0.02), w.scale) for n, w in start.lora.items()}
    learned = replace(start, lora=moved, bias={"layer.0.query": np.full(6, 0.5, np.float32)})
    zeros = replace(start, bias={"layer.0.query": np.zeros(6, np.float32)})
    return thinned(learned, zeros, codec_of(codec), "both", Adapter("tiny"))[0], learned


def taken(adapter: Adapter, **asked: Any) -> Adapter:
    """What the door of a hub of rank 4 makes of it."""
    data = to_bytes(adapter)
    begin = Begin(Sender("barn", "x", 1), digest(data), "adapter", "r1-train-barn", 1, BASE, len(data), 4)
    told = {"kinds": ("lora", "bias"), "thin": "int8", "start": lambda base, rank: started(rank), **asked}
    return adapter_of(data, begin, MODEL, Asked(4, (BASE,), **told))


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4", "top:0.2"])
def test_a_thin_update_becomes_whole_factors(codec: str) -> None:
    """The door gives the factors that the board computed for it, to the bit; nothing behind it knows of codecs."""
    made, _ = update(codec)

    found = taken(made, thin=codec)

    zeros = replace(started(), bias={"layer.0.query": np.zeros(6, np.float32)})
    for slot, factors in rebuilt(made, zeros).lora.items():
        assert found.lora[slot].a.tobytes() == factors.a.tobytes()
        assert found.lora[slot].b.tobytes() == factors.b.tobytes()
    assert found.thin is None
    assert abs(found.bias["layer.0.query"][0] - 0.5) < 0.05  # the first of equals goes, however few do


def test_who_sends_whole_factors_is_heard() -> None:
    """An agent that does not know the setting sends whole factors, and they are taken."""
    _, learned = update()

    assert taken(learned).lora.keys() == learned.lora.keys()


def _sneaking() -> Adapter:
    made, learned = update()
    return replace(made, lora=learned.lora)


def _not_finite() -> Adapter:
    made, _ = update("fp16")
    assert made.thin is not None
    return replace(made, thin=Thin(made.thin.told, {"thin/half": np.full_like(made.thin.tensors["thin/half"], np.inf)}))


REFUSED: dict[str, tuple[Adapter, dict[str, Any], str]] = {
    "not asked for": (update()[0], {"thin": "none"}, "it is thin by int8 instead of none"),
    "another codec": (update("int4")[0], {}, "it is thin by int4 instead of int8"),
    "a rank too high": (update(rank=9)[0], {}, "it has rank 9, the hub keeps 1 to 4"),
    "thin and whole": (_sneaking(), {}, "it is thin and whole at once"),
    "biases not asked for": (update()[0], {"kinds": ("lora",)}, "the bias of layer.0.query was not asked for"),
    "not finite": (_not_finite(), {"thin": "fp16"}, "thin/half is not finite"),
}


@pytest.mark.parametrize(("adapter", "asked", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_job_asked_for_is_refused(adapter: Adapter, asked: dict[str, Any], words: str) -> None:
    """A codec, a rank, a kind or numbers that the job did not ask for are named."""
    with pytest.raises(BadData) as caught:
        taken(adapter, **asked)
    assert words in str(caught.value)


@pytest.mark.parametrize("whole", [False, True], ids=["thin", "a resting factor"])
def test_a_version_that_nobody_made_is_refused_with_words(whole: bool) -> None:
    """What the file itself says that it started from is never looked up: unknown, its update would have no answer."""
    made, learned = update()
    strange, asked = replace(learned if whole else made, version="b" * 64), {"factors": "b"} if whole else {}

    def start(base: str, rank: int) -> Adapter:
        assert base == BASE, "a stranger's word was looked up"
        return started(rank)

    with pytest.raises(BadData, match="started from version 'bbbbbbbbbbbb', its envelope says aaaaaaaaaaaa"):
        taken(strange, start=start, **asked)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"trainer": "spry"}, "scalars are small already"), ({"prune_gamma": 0.5}, "found pruning, which lowers it")],
    ids=["scalars", "pruning"],
)
def test_what_does_not_go_with_thin_updates(settings: dict[str, Any], words: str) -> None:
    """Scalars, and factors whose rank changes, are not sent thin; the sentence says what to do."""
    with pytest.raises(UsageError, match=words):
        fits(replace(Recipe(), thin="int8"), settings)


def test_a_codec_is_known_before_a_round_is_opened() -> None:
    """A codec that does not exist is refused with those that do."""
    with pytest.raises(UsageError, match=r"expected none, fp16, int8, int4, top:FRACTION .* found 'zip'"):
        chosen(Recipe(), {"thin": "zip"})


def test_a_board_with_some_slots_is_read_against_those() -> None:
    """A thin update of a front holds the front's slots; read against all of the model's it would not be right."""
    one = next(iter(SLOTS))
    start = started()
    own = replace(start, lora={one: start.lora[one]})
    learned = replace(own, lora={one: Lora(own.lora[one].a + 1, own.lora[one].b, 2.0)})
    thin, _ = thinned(learned, own, codec_of("fp16"), "both", Adapter("tiny"))

    found = taken(thin, thin="fp16", slots=frozenset({one}))
    assert set(found.lora) == {one}
    np.testing.assert_array_equal(found.lora[one].a, rebuilt(thin, own).lora[one].a)
    with pytest.raises(BadData):
        taken(thin, thin="fp16")
