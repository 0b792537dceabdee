"""Which bucket a graph is fed by."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from console.errors import BadData, join
from wire.borders import forward_only
from wire.manifest import Bucket, Manifest, Segment

WASTE = 2  # a run of at least so many times the rows that are left is not worth it, where smaller ones do


def forward_bucket(manifest: Manifest) -> Bucket:
    """The bucket for inference: the largest that every segment has a forward graph for.

    Raises:
        BadData: there is none.
    """
    return _largest(_serving(manifest), "forward", "the model can only be trained")


def training_bucket(manifest: Manifest, micro_batch: int | None = None) -> Bucket:
    """The bucket to train with: the plan's, or the largest that the last segment has a backward graph for.

    Args:
        manifest: of the bundle.
        micro_batch: that a user asks for.

    Raises:
        BadData: the bundle cannot be trained, or not with that micro-batch.
    """
    buckets = _training(manifest)
    largest = _largest(buckets, "backward", "export with --mode train")
    if micro_batch is not None:
        buckets = [b for b in buckets if b.batch == micro_batch]
        if not buckets:
            able = sorted({b.batch for b in _training(manifest)})
            raise BadData(
                f"expected a micro-batch of the bundle ({join([str(n) for n in able])}), found {micro_batch}; take one "
                f"of these, or export with --micro-batches {micro_batch}"
            )
        largest = _largest(buckets, "backward", "")
    planned = [b for b in buckets if b.batch == manifest.plan.micro_batch]
    return _largest(planned, "backward", "") if planned else largest


def smaller_buckets(manifest: Manifest, bucket: Bucket, *, training: bool) -> tuple[Bucket, ...]:
    """The bucket, and those that can take its place where there are fewer rows or shorter texts."""
    able = _training(manifest) if training else _serving(manifest)
    return (bucket, *(b for b in able if b.name != bucket.name and _no_larger(b, bucket)))


def cut_up(
    count: int, buckets: Sequence[Bucket], lengths: Sequence[int] | None = None
) -> list[tuple[Bucket, list[int]]]:
    """Rows in micro-batches, each with its bucket; those of one bucket follow each other.

    Full micro-batches of the first bucket come first. What is left goes into the smallest bucket that holds it, unless
    most of that would be filled up and a smaller one does: then it is cut once more.

    Args:
        count: rows.
        buckets: the first is the largest.
        lengths: tokens of each row, where there are buckets for shorter texts; rows of like length then go together.
            None: buckets as long as the first only.

    Returns:
        Buckets with the indexes of rows, at most `batch` of them.

    >>> a, b = Bucket("b8", 8), Bucket("b2", 2)
    >>> [(bucket.name, rows) for bucket, rows in cut_up(11, (a, b))]
    [('b8', [0, 1, 2, 3, 4, 5, 6, 7]), ('b2', [8, 9]), ('b2', [10])]
    """
    order = list(range(count)) if lengths is None else sorted(range(count), key=lambda row: -lengths[row])
    out, first = [], buckets[0]
    buckets = [b for b in buckets if lengths is not None or b.sequence == first.sequence]
    while order:
        rows = order[: first.batch]
        longest = 0 if lengths is None else lengths[rows[0]]
        holding = _cheapest([b for b in buckets if b.batch >= len(rows) and _holds(b, longest)]) or first
        smaller = [b for b in buckets if b.batch <= len(rows) and _holds(b, longest)]
        if holding.batch >= WASTE * len(rows) and smaller:
            most = max(b.batch for b in smaller)
            holding = _cheapest([b for b in smaller if b.batch == most]) or first
        rows = rows[: holding.batch]
        out.append((holding, rows))
        order = order[len(rows) :]
    place = {b.name: at for at, b in enumerate(buckets)}
    return sorted(out, key=lambda part: place[part[0].name])


def by_bucket(
    count: int, buckets: Sequence[Bucket], lengths: Sequence[int] | None = None
) -> list[tuple[Bucket, list[list[int]]]]:
    """The same with the micro-batches of a bucket together.

    >>> [(bucket.name, parts) for bucket, parts in by_bucket(3, (Bucket("b2", 2), Bucket("b1", 1)))]
    [('b2', [[0, 1]]), ('b1', [[2]])]
    """
    parts = itertools.groupby(cut_up(count, buckets, lengths), key=lambda part: part[0])
    return [(bucket, [rows for _, rows in group]) for bucket, group in parts]


def _holds(bucket: Bucket, tokens: int) -> bool:
    return bucket.sequence is None or bucket.sequence >= tokens


def _no_larger(bucket: Bucket, other: Bucket) -> bool:
    return bucket.batch <= other.batch and (bucket.sequence or 0) <= (other.sequence or 0)


def _cheapest(buckets: Iterable[Bucket]) -> Bucket | None:
    return min(buckets, key=lambda b: b.batch * (b.sequence or 1), default=None)


def _serving(manifest: Manifest) -> list[Bucket]:
    return _able(manifest, "forward", manifest.segments)


def _training(manifest: Manifest) -> list[Bucket]:
    """Buckets with a backward graph of the last segment, and what it needs of those before it.

    A front without any goes by differences.
    """
    if forward_only(manifest):
        return _serving(manifest)
    before = {b.name for b in _able(manifest, "forward", manifest.segments[:-1])}
    return [b for b in _able(manifest, "backward", manifest.segments[-1:]) if b.name in before]


def _able(manifest: Manifest, kind: str, segments: Sequence[Segment]) -> list[Bucket]:
    names = [{g.bucket for g in s.graphs if g.kind == kind} for s in segments]
    return [b for b in manifest.buckets if all(b.name in own for own in names)]


def _largest(buckets: Sequence[Bucket], kind: str, otherwise: str) -> Bucket:
    if not buckets:
        raise BadData(f"expected {kind} graphs for one bucket in the bundle, found none; {otherwise}")
    return max(buckets, key=lambda b: (b.batch, b.sequence or 0))
