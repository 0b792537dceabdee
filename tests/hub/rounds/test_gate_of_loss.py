"""The gate of decoders: losses of a token over boards, and how far chance may move their difference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from console.errors import BadData
from hub.rounds import gate
from wire.scores import Score, Tokens, read_scores, to_bytes

NEW, OLD = "a" * 64, "b" * 64
Array = NDArray[np.float64]


def told(version: str, losses: Array, first: Array, tokens: Array, rank: int = 2) -> Score:
    """What a board says of a version, written out text by text."""
    d = [float(loss - begun) for loss, begun in zip(losses, first, strict=True)]
    sums = (
        sum(x * x for x in d),
        sum(x * t for x, t in zip(d, tokens.tolist(), strict=True)),
        sum(t * t for t in tokens.tolist()),
    )
    return Score(version, rank, (), (), tokens=Tokens(len(d), int(tokens.sum()), 0, float(losses.sum()), *sums))


def board(
    rng: np.random.Generator, rows: int, better: float, *, parent_first: bool = False
) -> tuple[list[Score], Array]:
    """Scores of a board whose texts lose `better` of a token's loss; and new loss, old loss, tokens of each text."""
    tokens = rng.integers(3, 30, rows).astype(float)
    old = tokens * rng.uniform(2, 4, rows)
    new = old - tokens * (better + rng.normal(0, 0.3, rows))
    first = old if parent_first else new
    return [told(NEW, new, first, tokens), told(OLD, old, first, tokens)], np.stack([new, old, tokens])


@pytest.mark.parametrize("parent_first", [False, True])
def test_losses_are_those_of_all_texts_in_one_place(parent_first: bool) -> None:
    """Whichever version a board judged first, loss and error are numpy's over the texts of all boards together."""
    rng = np.random.default_rng(4)
    boards = [board(rng, rows, 0.1, parent_first=parent_first) for rows in (7, 40, 12)]
    new, old, tokens = np.concatenate([texts for _, texts in boards], axis=1)

    found = gate.decide([scores for scores, _ in boards], NEW, OLD)

    ratio = (new - old).sum() / tokens.sum()
    rest = (new - old) - ratio * tokens
    assert found.candidate == pytest.approx(new.sum() / tokens.sum())
    assert found.parent == pytest.approx(old.sum() / tokens.sum())
    assert found.error == pytest.approx(math.sqrt(rest.var(ddof=1) * len(rest)) / tokens.sum())
    assert f"on 59 texts of {int(tokens.sum())} tokens that boards kept back" in found.sentence


def test_of_versions_that_are_as_good_one_in_twenty_is_refused() -> None:
    """Over 4,000 draws of 60 texts the gate refuses about one in twenty equal versions, and nearly all worse ones."""
    rng = np.random.default_rng(1)

    def refused(better: float, draws: int) -> float:
        return sum(not gate.decide([board(rng, 60, better)[0]], NEW, OLD).released for _ in range(draws)) / draws

    assert refused(0.0, 4000) == pytest.approx(0.05, abs=0.015)
    assert refused(-0.2, 200) > 0.95
    assert refused(0.2, 200) == 0.0


def test_the_verdict_is_said_in_words() -> None:
    """Lower, a little higher within the noise, and beyond it; a tolerance moves the line."""
    tokens, old = np.array([10.0, 10.0]), np.array([20.0, 30.0])

    def decide(new: list[float], tolerance: float = 0.0) -> gate.Decision:
        values = np.array(new)
        return gate.decide([[told(NEW, values, values, tokens), told(OLD, old, values, tokens)]], NEW, OLD, tolerance)

    better, noisy, worse = decide([18.0, 28.0]), decide([19.0, 32.0]), decide([24.0, 34.0])
    assert better.sentence.startswith("loss of a token 2.3000 after 2.5000 (perplexity 9.974 after 12.18) on 2 texts")
    assert better.sentence.endswith("(noise 0.0000): not worse")
    assert noisy.sentence.endswith("higher, but not beyond the noise")
    assert worse.sentence.endswith("worse beyond the noise")
    assert (better.released, noisy.released, worse.released) == (True, True, False)
    assert decide([24.0, 34.0], 0.5).released


def test_a_single_text_or_none_is_not_taken_for_much() -> None:
    """Without texts nothing is released; of one text no noise is allowed for; boards that differ are left out."""
    one, two = np.array([10.0]), np.array([2.0])
    worse = [told(NEW, one + 1e-3, one + 1e-3, two), told(OLD, one, one + 1e-3, two)]
    assert not gate.decide([worse], NEW, OLD).released
    nothing = [Score(version, 2, (), (), tokens=Tokens()) for version in (NEW, OLD)]
    assert gate.decide([nothing], NEW, OLD).sentence == "no board had texts to judge it by"
    other = [told(NEW, one, one, two), told(OLD, one, one, two + 1)]
    said = gate.decide([other], NEW, OLD).sentence
    assert said.endswith("left out: 1 boards that judged the two versions on different rows")


def test_sums_that_cannot_be_are_refused() -> None:
    """Counts for a decoder, sums for a classifier, more right tokens than tokens, and numbers that are none."""
    good = Score(NEW, 2, (), (), tokens=Tokens(2, 9, 3, 12.5, 0.25, -0.5, 41.0))
    assert read_scores(to_bytes([good]), 0, "it") == [good]
    with pytest.raises(BadData, match="counts of classes alone"):
        read_scores(to_bytes([good]), 3, "it")
    with pytest.raises(BadData, match="sums over tokens"):
        read_scores(to_bytes([Score(NEW, 2, (), ())]), 0, "it")
    assert good.tokens is not None
    bent = (Tokens(2, 9, 10), Tokens(10, 9, 3), Tokens(loss=1.0))
    for tokens in bent:
        with pytest.raises(BadData, match="none above its total"):
            read_scores(to_bytes([replace(good, tokens=tokens)]), 0, "it")
    with pytest.raises(BadData):
        read_scores(to_bytes([replace(good, tokens=replace(good.tokens, loss=math.nan))]), 0, "it")
