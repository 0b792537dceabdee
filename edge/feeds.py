"""Which bucket a graph is fed by."""

from __future__ import annotations

from collections.abc import Sequence

from console.errors import BadData
from wire.manifest import Bucket, Manifest, Segment


def forward_bucket(manifest: Manifest) -> Bucket:
    """The bucket for inference: the largest that every segment has a forward graph for.

    Raises:
        BadData: there is none.
    """
    return _largest(manifest, "forward", manifest.segments, "the model can only be trained")


def training_bucket(manifest: Manifest) -> Bucket:
    """The bucket of the plan's micro-batch, or the largest that the last segment has a backward graph for.

    Raises:
        BadData: the bundle cannot be trained.
    """
    last = manifest.segments[-1:]
    for bucket in manifest.buckets:
        kinds = {(g.kind, g.bucket) for g in last[0].graphs}
        if bucket.batch == manifest.plan.micro_batch and ("backward", bucket.name) in kinds:
            return bucket
    return _largest(manifest, "backward", last, "export with --mode train")


def _largest(manifest: Manifest, kind: str, segments: Sequence[Segment], otherwise: str) -> Bucket:
    served = [{g.bucket for g in s.graphs if g.kind == kind} for s in segments]
    fitting = [b for b in manifest.buckets if all(b.name in names for names in served)]
    if not fitting:
        raise BadData(f"expected {kind} graphs for one bucket in the bundle, found none; {otherwise}")
    return max(fitting, key=lambda b: (b.batch, b.sequence or 0))
