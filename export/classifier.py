"""The last product of a model that tells classes apart: its weight, in fp32 and as a variant stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.build import Piece, twin
from export.copies import find
from export.formats.grid import Grid
from export.gradient.dims import shape_of
from export.values import is_weight
from quant.variants import MOST_CLASSES

Array = NDArray[Any]


@dataclass(frozen=True)
class Last:
    """The product that makes the logits.

    Attributes:
        piece: it is in.
        features: the value that it multiplies.
        shape: of the features; empty where it is not known, or where the shipped graph has no such value.
        weight: what it multiplies with.
        turned: whether that is [classes, features].
    """

    piece: Piece
    features: str
    shape: tuple[int, ...]
    weight: str
    turned: bool

    def weights(self, grid: Grid) -> tuple[Array, Array]:
        """[classes, features] in fp32, and as the variant stores it."""
        exact = self.piece.exact["forward"]
        own = [report for report in self.piece.reports["forward"] if report.name == self.weight]
        restored = twin(exact, self.piece.shipped["forward"], own, grid)
        first, second = (_numbers(model, self.weight) for model in (exact, restored))
        return (first, second) if self.turned else (first.T, second.T)


def classifier(pieces: Sequence[Piece], logits: str) -> Last | None:
    """The product that makes the logits; None where none is seen.

    A vocabulary's is left alone: it would be dequantized as a whole for figures that nobody reads.
    """
    for piece in pieces:
        output = next((v for v in piece.exact["forward"].graph.outputs if v.name == logits), None)
        product = None if output is None else _product(output)
        if output is None or product is None:
            continue
        features, weight = product.inputs[:2]
        turned = bool(product.attributes.get_int("transB", 0))
        if features is None or weight is None or weight.shape is None or not _fits(output, weight, turned=turned):
            return None
        there = find(piece.shipped["forward"].graph, str(features.name)) is not None
        dims = tuple(dim for dim in shape_of(features) or () if isinstance(dim, int))
        known = there and len(dims) == len(shape_of(features) or ()) > 1
        return Last(piece, str(features.name), dims if known else (), str(weight.name), turned)
    return None


def _fits(output: ir.Value, weight: ir.Value, *, turned: bool) -> bool:
    """Whether a matrix has a row or column per logit, and not too many."""
    shape, columns = shape_of(weight) or (), (shape_of(output) or (None,))[-1]
    return (
        len(shape) == 2
        and shape[0 if turned else 1] == columns
        and isinstance(columns, int)
        and columns <= MOST_CLASSES
    )


def _product(value: ir.Value) -> ir.Node | None:
    """The product with a constant matrix that makes a value, behind sums."""
    maker = value.producer()
    if maker is None or maker.domain:
        return None
    if maker.op_type in ("MatMul", "Gemm"):
        matrix = maker.inputs[1]
        return maker if matrix is not None and is_weight(matrix) else None
    if maker.op_type in ("Add", "Identity"):
        found = (_product(part) for part in maker.inputs if part is not None)
        return next((one for one in found if one is not None), None)
    return None


def _numbers(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    return np.zeros((0, 0)) if tensor is None else np.asarray(tensor.numpy())
