"""Buckets beside that of a plan: smaller micro-batches and shorter texts, same segments, same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from console.errors import UsageError
from export.cut import crossing
from wire.manifest import Bucket

if TYPE_CHECKING:  # what is prepared asks this module
    from export.prepare import Prepared

Size = tuple[int, int | None]  # micro-batch, tokens of a text


def bucket(batch: int, sequence: int | None) -> Bucket:
    """The bucket of a size, with its name.

    >>> bucket(8, 64).name, bucket(2, None).name
    ('b8s64', 'b2')
    """
    return Bucket(f"b{batch}" if sequence is None else f"b{batch}s{sequence}", batch, sequence)


def allowed(asked: Sequence[int], able: Sequence[int] | None) -> tuple[int, ...]:
    """Micro-batches that were asked for, the largest first.

    Args:
        asked: what a user wants.
        able: what the model can be exported for; None for all.

    Raises:
        UsageError: it cannot be exported for one of them.
    """
    wrong = [n for n in asked if able is not None and n not in able]
    if wrong:
        raise UsageError(
            f"expected --micro-batches among {', '.join(map(str, sorted(able or ())))} for this model, "
            f"found {', '.join(map(str, wrong))}"
        )
    return tuple(sorted(set(asked), reverse=True))


def beside(prepared: Prepared, micro_batch: int) -> tuple[Size, ...]:
    """Sizes of the buckets beside that of a plan, the largest first.

    A larger micro-batch than the plan's does not fit with as few segments, or it would be the plan's.
    """
    lengths = (prepared.sequence, *prepared.shorter)
    batches = [n for n in prepared.micro_batches if n < micro_batch]
    sizes = [(batch, length) for batch in (micro_batch, *batches) for length in lengths]
    return tuple(size for size in sizes if size != (micro_batch, prepared.sequence))


def too_large(prepared: Prepared, micro_batch: int) -> tuple[str, ...]:
    """A sentence for each micro-batch that was asked for and is larger than the plan's."""
    return tuple(
        f"no bucket of micro-batch {n}: it does not fit the budget in as few segments as micro-batch {micro_batch}"
        for n in prepared.micro_batches
        if n > micro_batch
    )


def same_cuts(model: ir.Model, positions: Sequence[int], other: ir.Model) -> tuple[int, ...] | None:
    """Where to cut the model of another bucket so that the same tensors cross, by name and order; None if nowhere.

    What crosses decides what a segment computes, wherever the nodes between lie.

    Args:
        model: a frozen forward model.
        positions: its cuts, as nodes.
        other: the same model, frozen for another bucket.
    """
    wanted = [[value.name for value in values] for values in crossing(model.graph, positions)]
    places = {value.name: at for at, node in enumerate(other.graph) for value in node.outputs}
    found: list[int] = []
    for names in wanted:
        if not all(name in places for name in names):
            return None
        first = max(places[name] for name in names) + 1
        tried = crossing(other.graph, range(first, len(other.graph)))
        at = next((k for k, values in enumerate(tried) if [value.name for value in values] == names), None)
        if at is None:
            return None
        found.append(first + at)
    return tuple(found)
