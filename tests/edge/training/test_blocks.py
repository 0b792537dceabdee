"""Texts as rows: what is a token to predict, what is cut, and what only fills up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edge.training.blocks import Blocks, filled, packed
from edge.training.passages import Encoded
from edge.training.passing import judge

PAD, END = 0, 2


def text(*ids: int, given: int = 0) -> Encoded:
    """Some ids, the first of which may be a prompt's."""
    return Encoded(np.array(ids, np.int32), given)


def pairs(blocks: Blocks) -> list[tuple[int, int]]:
    """Every token that has another to predict, with it."""
    labels = blocks.labels(range(len(blocks)))
    at = labels >= 0
    assert blocks.mask[at].all()
    return list(zip(blocks.ids[at].tolist(), labels[at].tolist(), strict=True))


@pytest.mark.parametrize("side", ["right", "left"])
def test_each_token_predicts_the_next_on_either_side(side: str) -> None:
    """Filling up on another side moves a text and changes nothing that is learned, nor does it teach what fills up."""
    blocks = filled([text(5, 6, 7), text(8, 9, 10, given=2)], 6, PAD, END, side)
    assert pairs(blocks) == [(5, 6), (6, 7), (7, END), (9, 10), (10, END)]
    assert blocks.mask.sum(axis=1).tolist() == [4, 4]
    assert bool(blocks.mask[0, 0]) == (side == "right")


def test_texts_that_are_too_long_are_cut_and_counted() -> None:
    """The end mark of a text that is cut is not taught; a text without a token to predict is left out and counted."""
    blocks = filled([text(5, 6, 7, 8), text(5, 6, 7), text(9), text(5, 6, 7, 8, given=4)], 4, PAD, END)
    assert (len(blocks), blocks.cut, blocks.lone) == (3, 2, 1)
    assert pairs(blocks) == [(5, 6), (6, 7), (7, 8), (5, 6), (6, 7), (7, END), (9, END)]
    assert filled([text(9)], 4, PAD, None).lone == 1


def test_packing_loses_no_token() -> None:
    """Every token but the first of a row, and those of prompts, is predicted once from the one before it."""
    rng = np.random.default_rng(1)
    texts = [Encoded(rng.integers(3, 90, rng.integers(1, 20)).astype(np.int32)) for _ in range(30)]
    blocks = packed(texts, 8, PAD, END)
    stream = [token for one in texts for token in (*one.ids.tolist(), END)]
    expected = [(a, b) for at, (a, b) in enumerate(pairwise(stream), 1) if at % 8]
    assert pairs(blocks) == expected
    assert blocks.mask.sum() == len(stream)
    prompted = packed([text(5, 6), text(7, 8, 9, given=2)], 8, PAD, END)
    assert pairs(prompted) == [(5, 6), (6, END), (8, 9), (9, END)]


def test_an_end_mark_of_the_tokenizer_is_not_doubled() -> None:
    """A text that ends with the mark already keeps one."""
    assert pairs(filled([text(5, END)], 4, PAD, END)) == [(5, END)]


def test_losses_are_judged_row_by_row() -> None:
    """Summed loss and right answers of many tokens are those of numpy all at once; rows that fill up do not count."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3, 20, 11)).astype(np.float32)
    labels = np.where(rng.random((2, 20)) < 0.7, rng.integers(0, 11, (2, 20)), -100)
    z = logits[:2].astype(np.float64)
    logs = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    counts = labels >= 0
    picked = np.take_along_axis(logs, np.where(counts, labels, 0)[..., None], 2)[..., 0]
    loss, right = judge(logits, labels)
    assert loss == pytest.approx(-np.where(counts, picked, 0).sum(axis=1))
    assert right.tolist() == ((z.argmax(axis=2) == labels) & counts).sum(axis=1).tolist()
