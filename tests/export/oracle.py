"""Operators in numpy for `onnx.reference.ReferenceEvaluator`: onnxruntime's own, and those it rounds to float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]


class FusedMatMul(OpRun):
    """`alpha op(A) op(B)`; op transposes the last two axes (onnxruntime, docs/ContribOperators.md)."""

    op_domain = "com.microsoft"

    def _run(self, a: Array, b: Array, **attributes: Any) -> tuple[Array]:
        if attributes.get("transBatchA") or attributes.get("transBatchB"):
            raise NotImplementedError("transBatchA and transBatchB")
        left = np.swapaxes(a, -1, -2) if attributes.get("transA") else a
        right = np.swapaxes(b, -1, -2) if attributes.get("transB") else b
        alpha = attributes.get("alpha")
        return (np.asarray((left @ right) * np.asarray(1.0 if alpha is None else alpha, a.dtype), a.dtype),)


class SimplifiedLayerNormalization(OpRun):
    """`x / sqrt(mean(x x) + epsilon) scale` over the axes from `axis` on; onnxruntime keeps it in the ONNX domain."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, **attributes: Any) -> tuple[Array]:
        axis, epsilon = attributes.get("axis"), attributes.get("epsilon")
        axes = tuple(range((-1 if axis is None else axis) % x.ndim, x.ndim))
        square = np.mean(x * x, axis=axes, keepdims=True)
        return ((x / np.sqrt(square + (1e-5 if epsilon is None else epsilon)) * scale).astype(x.dtype),)


def erf(x: Array) -> Array:
    """The error function in the precision of `x`; the evaluator's own computes in float32."""
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), dtype=x.dtype)


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (erf(x),)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x: Array, approximate: str | None = None) -> tuple[Array]:
        if approximate == "tanh":
            inner = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
        else:
            inner = erf(x / math.sqrt(2.0))
        return ((0.5 * x * (1.0 + inner)).astype(x.dtype),)


OPERATORS: list[type[OpRun]] = [FusedMatMul, SimplifiedLayerNormalization, Erf, Gelu]


class Oracle:
    """`model` in numpy: named feeds in, named outputs out, in the precision of the feeds."""

    def __init__(self, model: ir.Model) -> None:
        self._evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=OPERATORS)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = self._evaluator.output_names
        return dict(zip(names, self._evaluator.run(None, dict(feeds)), strict=True))
