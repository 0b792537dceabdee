"""What the core knows of its bundle for local requests, without keeping the manifest."""

from __future__ import annotations

from dataclasses import dataclass

from wire.manifest import Manifest

TOKENIZER_BYTES = 16 << 20  # a process that answers keeps its tokenizer, which a worker's prediction does not have


@dataclass(frozen=True)
class About:
    """Of a bundle.

    Attributes:
        takes: kind of sample: text, image or tensors.
        labels: classes, in order; empty: it labels nothing.
        generates: whether it goes on from a prompt.
        serve_bytes: what a process that answers is predicted to take.
        train_bytes: what a worker is predicted to take; 0: nobody said.
    """

    takes: str
    labels: tuple[str, ...]
    generates: bool
    serve_bytes: int
    train_bytes: int


def about(manifest: Manifest) -> About:
    """What there is to know."""
    graphs = [g.memory.predicted_bytes for s in manifest.segments for g in s.graphs if g.kind in ("forward", "serve")]
    labelled = manifest.head is not None
    return About(
        manifest.preprocess.kind,
        manifest.labels if labelled else (),
        manifest.generate is not None,
        max(graphs, default=0) + TOKENIZER_BYTES,
        manifest.plan.predicted_bytes,
    )
