"""What a board asks of a tail before the first step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wire.activations import Coding
from wire.manifest import Bucket, Manifest
from wire.record import NAME, at_least, matching, plain, read_record


@dataclass(frozen=True)
class Shape:
    """Of a micro-batch: rows, and tokens of each where it is of texts."""

    batch: int = field(metadata=at_least(1, 1 << 16))
    sequence: int | None = None


@dataclass(frozen=True)
class Wish:
    """See above.

    Attributes:
        model: its id.
        base: digest of the version that both start from.
        border: names of the tensors that the front makes.
        buckets: of those that the front trains with, by name.
        split: what the export of both halves was called; empty: nobody knows.
        rows: of the board, by class where there are classes: what its update counts for.
        coding: of numbers that gradients flow through.
        labels: whether they go along; else features come back, and their gradient goes there.
        back: whether gradients come back.
    """

    model: str = field(metadata=matching(NAME))
    base: str
    border: tuple[str, ...]
    buckets: dict[str, Shape]
    split: str = ""
    rows: int = field(default=0, metadata=at_least(0))
    classes: tuple[int, ...] = ()
    coding: Coding = "int8"
    labels: bool = True
    back: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """As a note carries it."""
        return dict(plain(self))


def wish_of(
    manifest: Manifest, base: str, coding: Coding, rows: Sequence[int] = (), *, labels: bool = True, back: bool = True
) -> Wish:
    """What a front asks for, whose board has rows of these classes; how many of each goes with the labels alone."""
    classes = tuple(Counter(rows)[at] for at in range(len(manifest.labels)))
    return Wish(
        manifest.model.id,
        base,
        manifest.segments[-1].outputs if manifest.split is None else manifest.split.borders[0].tensors,
        {bucket.name: shape_of(bucket) for bucket in manifest.buckets},
        "" if manifest.split is None else manifest.split.id,
        len(rows),
        classes if labels else (),
        coding,
        labels,
        back,
    )


def shape_of(bucket: Bucket) -> Shape:
    """What of a bucket both halves must have alike."""
    return Shape(bucket.batch, bucket.sequence)


def read_wish(fields: dict[str, Any]) -> Wish:
    """What a board sent.

    Raises:
        BadData: naming every field that is wrong.
    """
    return read_record(Wish, fields, "what a board asks of a tail")
