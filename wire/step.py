"""Which graphs of a bundle an inference runs, and which a training step."""

from __future__ import annotations

from wire.manifest import Graph, Manifest, Segment


def inference_graphs(manifest: Manifest, bucket: str) -> list[Graph]:
    """Forward through every segment, without slots where there are such graphs.

    Raises:
        BadData: a segment has no forward graph for the bucket.
    """
    return [manifest.serving(segment, bucket, bare=True) for segment in manifest.segments]


def training_graphs(manifest: Manifest, bucket: str) -> list[Graph]:
    """Forward through all segments but the last, then backward through those with such graphs; or none."""
    segments = manifest.segments
    if _graph(segments[-1], "backward", bucket) is None:
        return []
    forward = [_graph(segment, "forward", bucket) for segment in segments[:-1]]
    backward = [_graph(segment, "backward", bucket) for segment in reversed(segments)]
    return [graph for graph in (*forward, *backward) if graph is not None]


def _graph(segment: Segment, kind: str, bucket: str) -> Graph | None:
    return next((g for g in segment.graphs if g.kind == kind and g.bucket == bucket), None)
