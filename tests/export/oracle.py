"""Operators of onnxruntime's own domain in numpy, for `onnx.reference.ReferenceEvaluator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def _run(
        self,
        a: Array,
        b: Array,
        alpha: float = 1.0,
        transA: int = 0,
        transB: int = 0,
        transBatchA: int = 0,
        transBatchB: int = 0,
    ) -> tuple[Array]:
        if transBatchA or transBatchB:
            raise NotImplementedError("transBatchA and transBatchB")
        left = np.swapaxes(a, -1, -2) if transA else a
        right = np.swapaxes(b, -1, -2) if transB else b
        return (np.asarray((left @ right) * np.asarray(alpha, a.dtype), a.dtype),)


class SimplifiedLayerNormalization(OpRun):
    """`x / sqrt(mean(x x) + epsilon) scale` over the axes from `axis` on; onnxruntime keeps it in the ONNX domain."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> tuple[Array]:
        axes = tuple(range(axis % x.ndim, x.ndim))
        inverse = 1.0 / np.sqrt(np.mean(x * x, axis=axes, keepdims=True) + epsilon)
        return ((x * inverse * scale).astype(x.dtype),)


OPERATORS = [FusedMatMul, SimplifiedLayerNormalization]


def evaluate(model: ir.Model, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
    """The outputs of `model` by name, computed by numpy."""
    evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=OPERATORS)
    names = list(outputs) if outputs is not None else list(evaluator.output_names)
    return dict(zip(names, evaluator.run(names, dict(feeds)), strict=True))
