"""The same rows in buckets of two sizes: outputs row by row, and sums of losses and gradients, must be the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.chain import Chain, gradients_of
from export.gradient.dims import shape_of
from export.verify import SAME_BAR, SUMMED, SUMMED_BAR, check_same

Array = NDArray[Any]
Values = Mapping[str, Array]
Shapes = Mapping[str, tuple[int | str | None, ...]]
PER_ROW = frozenset({"labels", "weights"})  # that a loss reads beside the model's inputs


def input_shapes(model: ir.Model) -> Shapes:
    """Shapes of the inputs of a frozen model, by name."""
    return {str(value.name): tuple(shape_of(value) or ()) for value in model.graph.inputs}


def split_rows(values: Values, shapes: tuple[Shapes, Shapes], batch: int, rows: int) -> list[dict[str, Array]] | None:
    """What a bucket is fed, in parts for one of fewer rows. A short last part repeats a row, with weight 0.

    Args:
        values: inputs of the model, adapters, labels and weights.
        shapes: of the inputs for the larger bucket, and for the smaller one.
        batch: rows of the larger bucket.
        rows: of the smaller one.

    Returns:
        What each part is fed; None where the buckets differ in something else than the first dimension.
    """
    large, small = shapes
    split = [name for name in large if large[name] != small[name]]
    if any((large[n][0], small[n][0], large[n][1:]) != (batch, rows, small[n][1:]) for n in split):
        return None
    parts = []
    for start in range(0, batch, rows):
        chosen = np.minimum(np.arange(start, start + rows), batch - 1)
        part = {name: array[chosen] if name in split else array for name, array in values.items()}
        for name in values.keys() & PER_ROW:
            by_row = values[name].reshape(batch, -1)[chosen]  # of a decoder each token has one
            if name == "weights":
                by_row[batch - start :] = 0
            part[name] = by_row.ravel()
        parts.append(part)
    return parts


def check_parts(
    large: Chain, small: Chain, values: Values, parts: Sequence[Values], names: Sequence[str], formats: Collection[str]
) -> float:
    """A bucket against a smaller one: the largest relative difference, of gradients relative to the largest of them.

    Args:
        large: the chain of the larger bucket.
        small: that of the smaller one.
        values: what the larger one is fed.
        parts: the same rows for the smaller one, see `split_rows`.
        names: inputs that learn, whose gradients are compared.
        formats: of the weights.

    Raises:
        VerificationError: they differ by more than 1e-5, or 1e-4 where `formats` has products of its own.
    """
    bar = SUMMED_BAR if SUMMED.intersection(formats) else SAME_BAR
    whole = large.backward(large.forward(values))
    found = [small.backward(small.forward(part)) for part in parts]
    worst = 0.0
    for name in _leaving(large):
        by_row = whole[name].ndim and whole[name].shape[1:] == found[0][name].shape[1:]
        if by_row and whole[name].dtype.kind == "f":
            joined = np.concatenate([one[name] for one in found])[: len(whole[name])]
            worst = max(worst, check_same(joined, whole[name], f"{name} of two buckets", bar=bar))
    gradients = gradients_of(whole, names)
    steepest = max((float(np.abs(g).max(initial=0)) for g in gradients.values()), default=1.0) or 1.0
    for name, gradient in gradients.items():
        summed: Array = np.stack([gradients_of(one, [name])[name] for one in found]).sum(axis=0, dtype=np.float64)
        worst = max(worst, check_same(summed, gradient, f"the gradient of {name} of two buckets", steepest, bar))
    return worst


def _leaving(chain: Chain) -> list[str]:
    """Outputs of the last segment."""
    last = chain.links[-1]
    return chain.graph(last.forward, last.forward_options).outputs
