"""What a manifest says of a border: which tensors cross, which gradients come back, what goes along."""

from __future__ import annotations

from export.gradient.dims import shape_of
from export.prepare import Prepared
from export.stage import Stage
from wire.borders import Border

TEXT_AXES = 3  # rows, tokens, features


def border_of(prepared: Prepared, tail: Stage, unit: int, at: int, devices: tuple[str, ...]) -> Border:
    """The border before the segment of number `at` of a tail."""
    segment = tail.pieces[at].segment
    feature, axis = _features(prepared, tail, at)
    return Border(
        unit=unit,
        tensors=segment.entering,
        gradients=segment.differentiable,
        inputs=_read_after(prepared, tail, at),
        segment=segment.name,
        devices=devices,
        features=feature,
        features_axis=axis,
    )


def _read_after(prepared: Prepared, tail: Stage, at: int) -> tuple[str, ...]:
    """Inputs of the model that the tail reads behind a border, in the model's order; ids, and not their rows."""
    ids = prepared.taken(tail.key.micro_batch).ids
    read = set[str]()
    for piece in tail.pieces[at:]:
        own = {str(v.name) for v in piece.segment.model.graph.inputs if not v.is_initializer()}
        read |= {ids.get(name, name) for name in own - {*piece.segment.entering}}
    return tuple(str(v.name) for v in prepared.whole(tail.key.micro_batch).graph.inputs if v.name in read)


def _features(prepared: Prepared, tail: Stage, at: int) -> tuple[str, int]:
    """The largest tensor whose gradient comes back, and the axis of its features.

    Of texts, one of rows, tokens and features before one of four axes: that is scores of an attention, of which a mean
    says nothing. The axis: the last, or of pictures the second; where the model's own features have as many dimensions,
    theirs.
    """
    segment = tail.pieces[at].segment
    shapes = {str(v.name): tuple(shape_of(v) or ()) for v in segment.model.graph.inputs}
    sizes = {}
    for name in segment.differentiable:
        dims = [dim for dim in shapes[name] if isinstance(dim, int)]
        if len(dims) == len(shapes[name]) > 1 and dims[0] == tail.key.micro_batch:
            sizes[name] = dims
    if not sizes:
        return "", 0
    texts = prepared.sequence is not None
    chosen = max(sizes, key=lambda name: (not texts or len(sizes[name]) <= TEXT_AXES, _count(sizes[name])))
    rank, known = len(sizes[chosen]), prepared.features
    if known is not None and len(known.shape) == rank:
        return chosen, known.axis
    return chosen, 1 if rank > 3 else rank - 1


def _count(dims: list[int]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count
