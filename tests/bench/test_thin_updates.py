"""The bench of thin updates sends what its ways say, and its table compares like with like."""

from __future__ import annotations

import numpy as np
import pytest

from bench.learning.local import Factors
from bench.learning.trunk import SLOTS
from bench.thin_updates import Ways, printed, ways_of


def factors(seed: int, rank: int = 2) -> Factors:
    """Factors of every slot."""
    g = np.random.default_rng(seed)
    shape_a, shape_b = (len(SLOTS), 12, rank), (len(SLOTS), rank, 10)
    return Factors(g.standard_normal(shape_a).astype(np.float32), g.standard_normal(shape_b).astype(np.float32))


def test_whole_updates_arrive_to_the_bit() -> None:
    """Without a codec what arrives is what was trained, and its file's bytes are counted, round after round."""
    sent, trained = factors(0), [factors(1), factors(2)]

    arrived, once = Ways("none", "-").through(sent, trained)
    _, twice = once.through(sent, trained)

    for there, own in zip(arrived, trained, strict=True):
        assert np.array_equal(there.a, own.a)
        assert np.array_equal(there.b, own.b)
    assert 0 < 2 * once.size_bytes == twice.size_bytes


@pytest.mark.parametrize("losses", ["product", "within", "factors", "plain"])
def test_a_codec_takes_fewer_bytes_and_some_ways_remember(losses: str) -> None:
    """A codec's file is smaller than the whole one; only the ways that say so hand on what was lost."""
    sent, trained = factors(0), [factors(1)]
    _, whole = Ways("none", "-").through(sent, trained)

    arrived, ways = Ways("int4", losses).through(sent, trained)

    assert ways.size_bytes < whole.size_bytes
    assert not np.array_equal(arrived[0].a, trained[0].a)
    assert bool(ways.lost[0].lora) == (losses in ("product", "factors"))


def test_the_table_compares_seed_by_seed() -> None:
    """Points are the mean of the differences to whole updates of the same seed, and the ratio is of bytes."""
    runs = [
        {"task": "t", "split": "iid", "codec": codec, "losses": losses, "seed": seed, "bytes_per_round": size}
        | {"accuracy": {"lda": right}}
        for codec, losses, size, rights in (("none", "-", 400, (0.8, 0.6)), ("int8", "plain", 100, (0.79, 0.58)))
        for seed, right in enumerate(rights)
    ]

    (row,) = [line.split() for line in printed(runs).splitlines() if line.startswith("int8")]

    assert row[-4:] == ["-1.50", "no", "100", "4.0"]


def test_halves_lose_too_little_to_be_remembered() -> None:
    """Whole updates and halves are one way each, other codecs one for each that becomes of what they lose."""
    assert list(ways_of(("fp16", "int8"), ("product", "plain"))) == [
        ("none", "-"),
        ("fp16", "plain"),
        ("int8", "product"),
        ("int8", "plain"),
    ]
