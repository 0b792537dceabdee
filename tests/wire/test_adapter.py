"""The adapter file, its kinds, and ladder arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import BadData
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.kinds import head
from wire.kinds.head import Head, Statistics
from wire.kinds.lora import Lora, concatenate, peft_names
from wire.ladder import emit, refactor, rungs, slot_key, spare_columns
from wire.philox import key_of, replay, signs, words


def _adapter(rank: int = 2) -> Adapter:
    g = np.random.default_rng(1)
    lora = Lora(g.standard_normal((4, rank)).astype(np.float32), g.standard_normal((rank, 3)).astype(np.float32), 2.0)
    x = g.standard_normal((7, 4)).astype(np.float32)
    statistics = head.gather(x, np.array([0, 1, 1, 2, 0, 0, 2]), 3)
    trained = Head(g.standard_normal((4, 3)).astype(np.float32), np.zeros(3, np.float32))
    return Adapter(
        "toy-1",
        "v" * 64,
        {"a.query": lora},
        {"a.query": np.ones(3, np.float32)},
        {0: trained, 8: trained},
        {2: statistics},
        {"k": "v"},
    )


def test_an_adapter_file_says_what_it_was_told() -> None:
    """Every kind survives the file, and writing again gives the same bytes."""
    made = _adapter()
    data = to_bytes(made)
    read = read_adapter(data, "f")
    assert (read.model, read.version, read.metadata) == ("toy-1", "v" * 64, {"k": "v"})
    np.testing.assert_array_equal(read.lora["a.query"].a, made.lora["a.query"].a)
    assert read.rank == 2
    assert read.head is read.heads[0]
    np.testing.assert_array_equal(read.statistics[2].gram, made.statistics[2].gram)
    assert to_bytes(read) == data


def test_other_readers_of_safetensors_read_it() -> None:
    """The file is plain safetensors: the library reads tensors and metadata."""
    import safetensors.numpy

    tensors = safetensors.numpy.load(to_bytes(_adapter()))
    assert tensors["a.query/lora/A"].shape == (4, 2)


def _rewrite(data: bytes, change: dict[str, object]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for name, value in change.items():
        if value is None:
            del header[name]
        else:
            header[name] = {**header[name], **value} if isinstance(value, dict) else value
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_hostile_adapter_files_end_in_one_sentence() -> None:
    """Noise, truncation, another format, wrong shapes, strangers and not-a-number are refused in words."""
    data = to_bytes(_adapter())
    nan = Adapter("toy", lora={"s": Lora(np.full((2, 1), np.nan, np.float32), np.ones((1, 2), np.float32), 1.0)})
    cases = {
        "noise": (b"abc" * 50, "expected an edgequilt-adapter file"),
        "empty": (b"", "expected an edgequilt-adapter file"),
        "truncated": (data[:-9], "expected an adapter file in f"),
        "a huge header": ((1 << 40).to_bytes(8, "little") + data[8:], "header length"),
        "another schema": (_rewrite(data, {"__metadata__": {"schema": "7"}}), "schema 7"),
        "wrong shape": (_rewrite(data, {"a.query/lora/B": {"shape": [3, 2]}}), r"needs A \[in, r\]"),
        "not finite": (to_bytes(nan), "s/lora/A is not finite"),
    }
    for name, (bent, words_) in cases.items():
        with pytest.raises(BadData, match=words_):
            pytest.fail(f"{name}: {read_adapter(bent, 'f')}")


def test_a_stranger_in_the_file_is_named() -> None:
    """A tensor of no kind is not skipped in silence."""
    import safetensors.numpy

    metadata = {"format": "edgequilt-adapter", "schema": "1", "model": "m"}
    raw = safetensors.numpy.save({"x/loha/w1": np.zeros(2, np.float32)}, metadata=metadata)
    with pytest.raises(BadData, match="x/loha/w1 belongs to no kind"):
        read_adapter(raw, "f")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 12), st.integers(1, 6), st.integers(0, 99))
def test_refactoring_is_the_best_approximation(m: int, n: int, stacked: int, rank: int, seed: int) -> None:
    """QR-core equals the truncated SVD of the product (Eckart-Young), thin stack or not, and knows its tail."""
    g = np.random.default_rng(seed)
    left, right = g.standard_normal((m, stacked)), g.standard_normal((stacked, n))
    f = refactor(left, right, rank)
    u, s, vt = np.linalg.svd(left @ right)
    keep = min(rank, len(s))
    best = (u[:, :keep] * s[:keep]) @ vt[:keep]
    np.testing.assert_allclose((f.u * f.s) @ f.vt, best, atol=1e-9)
    assert f.tail == pytest.approx(np.linalg.norm(left @ right - best), abs=1e-9)


def test_signs_are_fixed_so_that_bytes_repeat() -> None:
    """The order of the stack does not change the ladder, not even its signs."""
    g = np.random.default_rng(3)
    left, right = g.standard_normal((8, 5)), g.standard_normal((5, 6))
    order = [3, 1, 4, 0, 2]
    one, other = refactor(left, right, 4), refactor(left[:, order], right[order], 4)
    np.testing.assert_allclose(one.u, other.u, atol=1e-10)


def test_a_ladder_keeps_the_product_and_fills_spare_directions() -> None:
    """Emitted factors give the product back; directions that carry nothing have a seeded A and B = 0."""
    g = np.random.default_rng(4)
    left, right = g.standard_normal((8, 2)), g.standard_normal((2, 6))
    a, b = emit(refactor(left, right, 4), 5, 2.0, slot_key("m", "s", 1))
    np.testing.assert_allclose(2.0 * a @ b, left @ right, atol=1e-12)
    np.testing.assert_allclose(a[:, :2].T @ a[:, :2], np.eye(2), atol=1e-12)
    assert not b[2:].any()
    np.testing.assert_allclose(np.linalg.norm(a[:, 2:], axis=0), 1.0)
    np.testing.assert_array_equal(a[:, 2:], spare_columns(8, 5, slot_key("m", "s", 1))[:, 2:])


def test_rungs_are_prefixes() -> None:
    """Putting rungs together gives the ladder; every power of two is a prefix."""
    g = np.random.default_rng(5)
    whole = Lora(g.standard_normal((4, 16)).astype(np.float32), g.standard_normal((16, 3)).astype(np.float32), 2.0)
    pieces = [Lora(whole.a[:, low:high], whole.b[low:high], 2.0) for low, high in rungs(16)]
    np.testing.assert_array_equal(concatenate(pieces[:4]).product(), whole.prefix(8).product())
    assert peft_names("m")[1] == "base_model.model.m.lora_B.weight"


GOLDEN_WORDS = [0xCBCBAF5542B9EF3F, 0x38A74519F6C28ED2, 0x63B2645403627E9F]  # docs/adapter.md prints them


def test_philox_words_are_the_published_algorithm() -> None:
    """An independent Philox4x64-10 written from the paper gives the same words (counter blocks of four)."""
    key = key_of("golden")
    assert words(key, 5, 9).tolist() == _philox(key, 5, 9)
    assert words(key, 0, 3).tolist() == GOLDEN_WORDS


def _philox(key: int, counter: int, count: int) -> list[int]:
    mask, block = (1 << 64) - 1, 0
    out: list[int] = []
    while len(out) < count:
        block += 1  # numpy increments the 256-bit counter before each block
        c = [((counter << 64) + block >> 64 * i) & mask for i in range(4)]
        k0, k1 = key & mask, key >> 64
        for _ in range(10):
            p0, p1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(p1 >> 64) ^ c[1] ^ k0, p1 & mask, (p0 >> 64) ^ c[3] ^ k1, p0 & mask]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        out += c
    return out[:count]


def test_directions_are_signs_of_the_words() -> None:
    """Word i gives signs 64 i on, least significant bit first."""
    key = key_of("golden")
    raw = _philox(key, 0, 2)
    expected = [1.0 if raw[i // 64] >> (i % 64) & 1 else -1.0 for i in range(70)]
    assert signs(key, 0, (7, 10)).reshape(-1).tolist() == expected


def test_replay_is_the_sum_in_order() -> None:
    """Hub and device rebuild one sum from (counter, scalar) pairs, bit for bit."""
    key = key_of("r")
    pairs = [(0, 0.1), (3, -0.25), (9, 1e-3)]
    expected = np.zeros((5,), np.float32)
    for counter, scalar in pairs:
        expected = expected + np.float32(scalar) * signs(key, counter, (5,))
    assert replay(key, pairs, (5,)).tobytes() == expected.tobytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1000))
def test_summed_statistics_are_the_statistics_of_the_pool(rows: int, boards: int, seed: int) -> None:
    """Under any split over boards the sum is the pooled statistic, to 1e-12."""
    g = np.random.default_rng(seed)
    x, y = g.standard_normal((rows, 6)).astype(np.float32), g.integers(0, 3, rows)
    owner = g.integers(0, boards, rows)
    total = Statistics(np.zeros(3), np.zeros((3, 6)), np.zeros((6, 6)))
    for board in range(boards):
        total = total + head.gather(x[owner == board], y[owner == board], 3)
    pooled = head.gather(x, y, 3)
    for one, other in ((total.count, pooled.count), (total.sum, pooled.sum), (total.gram, pooled.gram)):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
