"""Thin updates: what every codec keeps and loses, in which bytes, and what error feedback adds up to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from numpy.typing import NDArray

from console.errors import BadData
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.kinds.thin_file import Thin, Told
from wire.thin import blocks, largest
from wire.thin.coding import rebuilt, thinned
from wire.thin.table import codec_of

CODECS = ("fp16", "int8", "int4", "top:0.2")
BASE = "a" * 64
VALUES = hn.arrays(np.float32, st.integers(0, 300), elements=st.floats(-1e4, 1e4, width=32))


def passed(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Differences as they arrive."""
    codec = codec_of(name)
    (found,) = codec.decode(codec.encode(values), [values.size])
    return found


@given(VALUES, st.sampled_from([8, 4]))
def test_a_block_loses_at_most_half_a_step(values: NDArray[np.float32], bits: int) -> None:
    """No number moves by more than half of its block's step, which is the block's largest number over 127 or 7."""
    found = passed(values, f"int{bits}").astype(np.float64)

    for at in range(0, len(values), blocks.BLOCK):
        own, there = values[at : at + blocks.BLOCK].astype(np.float64), found[at : at + blocks.BLOCK]
        step = np.abs(own).max() / blocks.LEVELS[bits] * (1 + 2**-7)  # a bfloat16 has 8 bits
        assert np.abs(own - there).max() <= step / 2 * (1 + 1e-6) + blocks.TINY


@given(VALUES)
def test_halves_lose_an_eleventh_bit(values: NDArray[np.float32]) -> None:
    """A float16 is within 2^-11 of its number, or of the least step that it has."""
    found = passed(values, "fp16").astype(np.float64)

    assert (np.abs(found - values) <= np.maximum(np.abs(values.astype(np.float64)) * 2**-11, 2**-25)).all()


@given(VALUES, st.sampled_from([0.05, 0.2, 0.5]))
@example(np.array([1e-45] + [0.0] * 20, np.float32), 0.05)  # smaller than any step
def test_the_largest_arrive_and_the_rest_is_zero(values: NDArray[np.float32], fraction: float) -> None:
    """What is not sent is smaller than all that is, and as many go as the fraction says."""
    tensors = largest.encode(values, fraction)
    (found,) = largest.decode(tensors, [values.size], fraction)
    count = largest.kept(values.size, fraction)

    assert len(tensors[blocks.CODES]) == count
    sizes = np.sort(np.abs(values))[::-1]
    least = sizes[count - 1] if count else np.inf
    assert not found[np.abs(values) < least].any()
    half_a_step = 0.5 * sizes[:1].max(initial=0) / 127 * 1.01
    assert np.abs(values[found == 0]).max(initial=0) <= max(least, half_a_step, blocks.TINY)


@given(VALUES, st.sampled_from(CODECS))
def test_the_same_numbers_are_the_same_bytes(values: NDArray[np.float32], name: str) -> None:
    """Coding what arrived gives the bytes that it came in: nothing depends on more than the numbers."""
    codec = codec_of(name)

    once, again = codec.encode(values), codec.encode(values.copy())

    assert {k: v.tobytes() for k, v in once.items()} == {k: v.tobytes() for k, v in again.items()}


def sent(rank: int = 3) -> Adapter:
    """What a version gives a board: factors of two slots, a change of a bias, a head."""
    g = np.random.default_rng(0)
    sizes = {"x": (9, 7), "y": (130, 5)}
    lora = {n: Lora(_normal(g, i, rank), _normal(g, rank, o), 2.0) for n, (i, o) in sizes.items()}
    return Adapter("tiny", BASE, lora, {"x": _normal(g, 7)}, {rank: Head(_normal(g, 5, 3), _normal(g, 3))})


def learned(start: Adapter, seed: int, by: float = 0.1) -> Adapter:
    """The same, moved at random."""
    g = np.random.default_rng(seed)

    def moved(a: NDArray[np.float32]) -> NDArray[np.float32]:
        there: NDArray[np.float32] = a + np.float32(by) * _normal(g, *a.shape)
        return there

    return replace(
        start,
        lora={n: Lora(moved(w.a), moved(w.b), w.scale) for n, w in start.lora.items()},
        bias={n: moved(b) for n, b in start.bias.items()},
        heads={r: Head(moved(h.weight), moved(h.bias)) for r, h in start.heads.items()},
    )


def _normal(g: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return g.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", CODECS)
def test_an_update_goes_round(name: str) -> None:
    """A thin file holds no factors, is smaller, and on top of what was sent gives nearly what was learned."""
    start, update = sent(), learned(sent(), 1, by=0.01)

    made, lost = thinned(update, start, codec_of(name), "both", Adapter("tiny"))
    there = rebuilt(read_adapter(to_bytes(made), "here"), start)

    assert not made.lora
    assert len(to_bytes(made)) < len(to_bytes(update))
    assert there.lora.keys() == update.lora.keys()
    assert there.rank == update.rank
    for slot, factors in there.lora.items():
        wanted, found = (w.scale * w.a.astype(np.float64) @ w.b for w in (update.lora[slot], factors))
        rest = lost.lora[slot].a.astype(np.float64) @ lost.lora[slot].b
        np.testing.assert_allclose(found + rest, wanted, atol=2e-5)
    np.testing.assert_allclose(there.bias["x"] + lost.bias["x"], update.bias["x"], atol=1e-6)
    np.testing.assert_allclose(there.heads[3].weight + lost.heads[3].weight, update.heads[3].weight, atol=1e-6)


@pytest.mark.parametrize("name", ["int8", "int4", "top:0.2"])
@pytest.mark.parametrize(("rank", "cut"), [(4, 1e-6), (3, 0.02)], ids=["kept whole", "kept at twice the rank"])
def test_what_is_lost_is_made_good(name: str, rank: int, cut: float) -> None:
    """Over rounds, the changes that arrived add up to those that were learned but for the last loss, in any basis.

    A matrix of 9 by 7 is kept whole at rank 4; at rank 3 what is beyond rank 6 is cut off, which is little.
    """
    g, lost = np.random.default_rng(5), Adapter("tiny")
    came, wanted = np.zeros((9, 7)), np.zeros((9, 7))
    for turn in range(6):
        start = sent(rank)
        turned = np.linalg.qr(g.standard_normal((rank, rank)))[0].astype(
            np.float32
        )  # each version has a basis of its own
        lora = {n: Lora(w.a @ turned, turned.T @ w.b, w.scale) for n, w in start.lora.items()}
        start = replace(start, lora=lora, bias={}, heads={})
        update = learned(start, turn, by=0.02)

        made, lost = thinned(update, start, codec_of(name), "both", lost)
        there = rebuilt(made, start)
        began, own, found = (_product(a.lora["x"]) for a in (start, update, there))
        wanted, came = wanted + own - began, came + found - began

    left = _product(lost.lora["x"])
    assert np.linalg.norm(came + left - wanted) <= cut * np.linalg.norm(wanted)
    assert np.linalg.norm(left) < np.linalg.norm(wanted)


def _product(one: Lora) -> NDArray[np.float64]:
    found: NDArray[np.float64] = one.scale * one.a.astype(np.float64) @ one.b.astype(np.float64)
    return found


@pytest.mark.parametrize(("learns", "rests"), [("a", "b"), ("b", "a")])
def test_a_factor_that_rests_comes_back_to_the_bit(learns: Any, rests: str) -> None:
    """Where one factor learns, nothing of the other one is sent, and it is what it was."""
    start = replace(sent(), bias={}, heads={})
    update = learned(start, 2)
    lora = {
        n: Lora(w.a, start.lora[n].b, w.scale) if learns == "a" else Lora(start.lora[n].a, w.b, w.scale)
        for n, w in update.lora.items()
    }

    made, _ = thinned(replace(update, lora=lora), start, codec_of("int8"), learns, Adapter("tiny"))
    there = rebuilt(made, start)

    for slot, factors in there.lora.items():
        assert getattr(factors, rests).tobytes() == getattr(start.lora[slot], rests).tobytes()


LONG = np.zeros(1 << 20, np.int8)
WRONG: dict[str, tuple[dict[str, Any], Told, str]] = {
    "too long": ({blocks.CODES: LONG}, Told("int8", 3), "thin/codes is [1048576] instead of"),
    "too short": ({blocks.STEPS: np.zeros(1, np.uint16)}, Told("int8", 3), "thin/steps is [1] instead of"),
    "a step that is none": ({blocks.STEPS: None}, Told("int8", 3), "thin/steps has steps that are none"),
    "a bias of no slot": ({}, Told("int8", 3, biases=("z",)), "expected biases that the model has"),
    "a head of no version": ({}, Told("int8", 3, head=3), "expected a version with a head"),
}


@pytest.mark.parametrize(("changed", "told", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_a_file_says_of_itself_chooses_no_size(changed: dict[str, Any], told: Told, words: str) -> None:
    """Lengths follow from what was sent; a file that has others, or steps that are none, is refused with words."""
    start = replace(sent(), bias={}, heads={})
    made, _ = thinned(learned(start, 3), start, codec_of("int8"), "both", Adapter("tiny"))
    assert made.thin is not None
    tensors = dict(made.thin.tensors)
    for name, value in changed.items():
        tensors[name] = np.full_like(tensors[name], 0x7F80) if value is None else value

    with pytest.raises(BadData) as caught:
        rebuilt(replace(made, thin=Thin(told, tensors)), start)
    assert words in str(caught.value)


@pytest.mark.parametrize("gaps", [[255, 255, 255], [0], [7, 0, 0], [0, 0, 255]], ids=str)
def test_places_that_are_not_there_are_refused(gaps: list[int]) -> None:
    """Gaps that name too few places, too many, or one behind the end are no update."""
    tensors = largest.encode(np.arange(8, dtype=np.float32), 0.25)
    with pytest.raises(ValueError, match="thin/gaps"):
        largest.decode({**tensors, largest.GAPS: np.array(gaps, np.uint8)}, [8], 0.25)


@pytest.mark.parametrize("name", ["int7", "top:0", "top:0.9", "top:nan", "", "x" * 200])
def test_a_codec_that_is_none_is_named_with_those_that_are(name: str) -> None:
    """A name that nobody knows is refused with all that there are."""
    with pytest.raises(BadData, match=r"expected none, fp16, int8, int4, top:FRACTION"):
        codec_of(name)


def test_a_reader_that_finds_other_tensors_refuses_the_file() -> None:
    """A thin file whose tensors are not those of its codec is not read as something else."""
    start = replace(sent(), bias={}, heads={})
    made, _ = thinned(learned(start, 4), start, codec_of("int8"), "both", Adapter("tiny"))
    assert made.thin is not None
    data = to_bytes(replace(made, thin=Thin(replace(made.thin.told, codec="fp16"), made.thin.tensors)))

    with pytest.raises(BadData, match="a thin update of fp16 has"):
        read_adapter(data, "an update")
