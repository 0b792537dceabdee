"""Factors of quantization scales: what travels, what replays it, and what they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from console.errors import BadData
from wire.adapter import Adapter, _ordered, read_adapter, to_bytes
from wire.kinds.scales import Belongs, Replay, ScaleFactors, compact, problems_of, replayed, round_key
from wire.philox import key_of, signs

BELONGS = {"a": Belongs("int4", "1" * 64, (5, 1)), "b.weight": Belongs("nf4", "2" * 64, (3, 4))}
PAIRS = ((0, 0.03125), (1, -0.0625), (2, 0.015625), (3, 0.0))
REPLAY = Replay(7, 1, 2, PAIRS)


def by_paper() -> dict[str, np.ndarray]:
    """The factors in float64 from the formulas, with directions from the streams themselves."""
    out = {}
    for weight, one in BELONGS.items():
        key, f = key_of(f"{round_key(7):032x}", weight, 1), np.ones(one.shape)
        for step in (PAIRS[:2], PAIRS[2:]):
            c = sum(s * signs(key, counter, one.shape).astype(np.float64) for counter, s in step)
            f = np.where(c >= 0, f * (1 + np.abs(c)), f / (1 + np.abs(c)))
        out[weight] = f
    return out


def test_pairs_make_the_factors_of_the_formula() -> None:
    """Replayed factors are those of the formula, not 1, and the same bits each time."""
    made, wanted = replayed(BELONGS, REPLAY), by_paper()
    for weight in BELONGS:
        np.testing.assert_allclose(made[weight], wanted[weight], rtol=1e-6)
        assert np.array_equal(made[weight], replayed(BELONGS, REPLAY)[weight])
        assert (made[weight] != 1).all()


@pytest.mark.parametrize("how", ["arrays", "replay"])
def test_a_file_gives_back_factors(how: str) -> None:
    """Either form survives the file, with the weights that it belongs to; written again it has the same bytes."""
    whole = ScaleFactors(BELONGS, replayed(BELONGS, REPLAY)) if how == "arrays" else ScaleFactors(BELONGS, None, REPLAY)
    data = to_bytes(Adapter("toy-1", scales=whole))
    read = read_adapter(data, "f")
    assert read.scales is not None
    assert read.scales.belongs == BELONGS
    assert read.metadata == {}
    for weight, factor in replayed(BELONGS, REPLAY).items():
        assert np.array_equal(read.scales.factors[weight], factor)
    assert to_bytes(read) == data


def test_the_smaller_form_is_taken_and_is_exact() -> None:
    """Few pairs replace many numbers, also those of a step before the last; other numbers stay as they are."""
    large = {"a": replace(BELONGS["a"], shape=(50, 1))}
    early = ScaleFactors(large, replayed(large, replace(REPLAY, pairs=PAIRS[:2])))
    taken = compact(early, REPLAY)
    assert taken.replay == replace(REPLAY, pairs=PAIRS[:2])
    assert np.array_equal(taken.factors["a"], early.factors["a"])
    other = ScaleFactors(large, {"a": early.factors["a"] * np.float32(1.5)})
    assert compact(other, REPLAY) is other
    small = {"a": replace(BELONGS["a"], shape=(4, 1))}
    few = ScaleFactors(small, replayed(small, REPLAY))
    assert compact(few, REPLAY) is few


def changed(change: Callable[[dict[str, Any], dict[str, Any]], None], replay: bool = False) -> bytes:
    """A file of factors with tensors or metadata that were tampered with."""
    made = ScaleFactors(BELONGS, None, REPLAY) if replay else ScaleFactors(BELONGS, replayed(BELONGS, REPLAY))
    data = to_bytes(Adapter("toy-1", scales=made))
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    tensors = safetensors.numpy.load(data)
    told = json.loads(metadata["scales"])
    change(tensors, told)
    metadata["scales"] = json.dumps(told)
    return _ordered(tensors, metadata)


@pytest.mark.parametrize(
    ("replay", "change", "words"),
    [
        (False, lambda t, m: t.pop("a/scales/factor"), "the scales of a are missing"),
        (False, lambda t, m: m["weights"].pop("a"), "a/scales/factor is of no weight"),
        (False, lambda t, m: t.update({"a/scales/factor": np.ones((5, 2), np.float32)}), r"not float32 \[5, 1\] above"),
        (False, lambda t, m: t["a/scales/factor"].__setitem__(0, -1), "above 0"),
        (False, lambda t, m: m["weights"]["a"].update(digest="x"), "digest"),
        (False, lambda t, m: m["weights"]["a"].update(shape=[0, 1]), "the scales of a have no shape"),
        (True, lambda t, m: t.pop("scales/scalar"), "needs scales/counter"),
        (True, lambda t, m: t.update({"scales/scalar": np.zeros(3, np.float32)}), "needs scales/counter"),
        (True, lambda t, m: t.update({"scales/counter": np.zeros(4, np.int64)}), "uint64"),
        (True, lambda t, m: m.update(key="7"), "key"),
        (True, lambda t, m: m.update(per_step=0), "per_step"),
    ],
)
def test_what_contradicts_itself_is_refused(
    replay: bool, change: Callable[[dict[str, Any], dict[str, Any]], None], words: str
) -> None:
    """A file whose tensors are not what its metadata says is no adapter."""
    with pytest.raises(BadData, match=words):
        read_adapter(changed(change, replay), "f")


def test_factors_belong_to_one_rounding_of_one_weight() -> None:
    """Another format, other bytes, another shape and a weight without such a graph are told apart."""
    own = ScaleFactors(BELONGS, None, REPLAY)
    there = [("a", "int4", "1" * 64, (5, 8)), ("b.weight", "nf4", "2" * 64, (3, 4))]
    assert problems_of(own, there) == []
    for other, words in (
        (("a", "int8", "1" * 64, (5,)), "the scales of a were learned in int4, and here it is int8"),
        (("a", "int4", "3" * 64, (5, 8)), "learned on other int4 numbers"),
        (("a", "int4", "1" * 64, (6, 8)), r"the scales of a are [6, 8], not [5, 1]"),
        (("c", "int4", "1" * 64, (5, 8)), "the scales of a cannot be moved here"),
    ):
        (problem,) = problems_of(own, [other, there[1]])
        assert words in problem
