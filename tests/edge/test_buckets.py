"""Which bucket rows go through, and that it makes no difference to what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.errors import BadData
from edge import load
from edge.feeds import cut_up, smaller_buckets, training_bucket
from tests.edge.bundles import make_bundle, make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import CHAINS, pictures, random_adapter, rows, runner
from wire.manifest import Bucket


@pytest.mark.parametrize("segments", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("count", [1, 3, 4, 7, 8])
def test_rows_in_buckets_have_torchs_gradients(tmp_path: Path, segments: tuple[int, ...], count: int) -> None:
    """Loss and gradients of any number of rows through micro-batches of 4, 2 and 1 are torch's, whatever the cut."""
    run = runner(tmp_path, segments=segments, micro_batch=4, smaller=(2, 1))
    adapter, data = random_adapter(run.manifest), rows(count)
    expected_loss, expected = Oracle(make_weights(sum(segments)), adapter).gradients(
        pixels([r.sample for r in data]), [r.label for r in data]
    )

    found = run.gradients(data, adapter)

    assert found.loss == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found.by_input[name], gradient, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


def test_every_micro_batch_has_the_same_gradients(tmp_path: Path) -> None:
    """Sums over micro-batches of 4, of 2 and of 1 differ by no more than rounding."""
    run = runner(tmp_path, micro_batch=4, smaller=(2, 1))
    adapter, data = random_adapter(run.manifest), rows(8)
    pairs = [(i, row.label) for i, row in enumerate(data)]
    samples = [row.sample for row in data]

    found = [run.gradients(run.ready(samples, training=True, micro_batch=n), adapter, pairs) for n in (4, 2, 1)]

    for other in found[1:]:
        assert other.loss == pytest.approx(found[0].loss, rel=1e-6)
        for name, gradient in found[0].by_input.items():
            np.testing.assert_allclose(other.by_input[name], gradient, atol=1e-6 * np.abs(gradient).max())


def test_rows_keep_their_places_in_a_forward_pass(tmp_path: Path) -> None:
    """Features of rows that went through several buckets are in the order of the rows, and are torch's."""
    run = runner(tmp_path, micro_batch=4, smaller=(2, 1))
    adapter, samples = random_adapter(run.manifest), pictures(7)
    expected = Oracle(make_weights(2), adapter).features(pixels(samples)).detach()
    np.testing.assert_allclose(run.forward(samples, adapter).features, expected, atol=1e-6)


def test_texts_of_unknown_length_stay_in_the_longest_bucket() -> None:
    """Where nobody knows how long rows are, none goes into a bucket for shorter texts."""
    buckets = (Bucket("b4s8", 4, 8), Bucket("b4s2", 4, 2), Bucket("b1s8", 1, 8), Bucket("b1s2", 1, 2))
    assert [bucket.name for bucket, _ in cut_up(5, buckets)] == ["b4s8", "b1s8"]
    assert [(b.name, rows) for b, rows in cut_up(5, buckets, [1, 2, 8, 1, 2])] == [
        ("b4s8", [2, 1, 4, 0]),
        ("b1s2", [3]),
    ]


def test_the_bucket_of_a_step_is_the_plans_or_the_users(tmp_path: Path) -> None:
    """Nothing said: the plan's; a micro-batch named: that one, or a sentence that names those that there are."""
    make_bundle(tmp_path, micro_batch=4, smaller=(2, 1))
    m = load(tmp_path).runner.manifest
    assert training_bucket(m).batch == 4
    assert training_bucket(replace(m, plan=replace(m.plan, micro_batch=2))).batch == 2
    assert training_bucket(m, 1).batch == 1
    with pytest.raises(BadData, match=r"a micro-batch of the bundle \(1; 2; 4\), found 3"):
        training_bucket(m, 3)


def test_smaller_buckets_are_no_larger_in_any_direction() -> None:
    """A bucket of fewer rows and longer texts does not take the place of another one."""
    buckets = (Bucket("a", 4, 8), Bucket("b", 8, 4), Bucket("c", 4, 4))
    assert [b.name for b in buckets if _stands_in(buckets, b)] == ["a", "c"]


def _stands_in(buckets: Sequence[Bucket], bucket: Bucket) -> bool:
    """Whether a bucket may take the place of the first."""
    from tests.wire.samples import manifest

    m = manifest({})
    (segment,) = m.segments
    graphs = tuple(replace(segment.graphs[0], bucket=b.name) for b in buckets)
    m = replace(m, buckets=tuple(buckets), segments=(replace(segment, graphs=graphs),))
    return bucket in smaller_buckets(m, buckets[0], training=False)


@given(
    st.integers(0, 40),
    st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([8, 16, 64]), min_size=1, max_size=3, unique=True),
    st.randoms(use_true_random=False),
)
def test_every_row_is_in_one_micro_batch_that_holds_it(
    count: int, batches: list[int], lengths: list[int], random: object
) -> None:
    """No row is lost, doubled or cut, whatever the buckets; those of one bucket follow each other."""
    sizes = sorted(((b, s) for b in batches for s in lengths), reverse=True)
    buckets = [Bucket(f"b{b}s{s}", b, s) for b, s in sizes]
    tokens = [random.randint(0, max(lengths)) for _ in range(count)]  # type: ignore[attr-defined]  # untyped strategy

    parts = cut_up(count, buckets, tokens)

    assert sorted(row for _, chosen in parts for row in chosen) == list(range(count))
    for bucket, chosen in parts:
        assert 1 <= len(chosen) <= bucket.batch
        assert max(tokens[row] for row in chosen) <= (bucket.sequence or 0)
    names = [bucket.name for bucket, _ in parts]
    assert all(name not in names[k + 1 :] or names[k + 1] == name for k, name in enumerate(names[:-1]))
