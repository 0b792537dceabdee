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


class GridSample(OpRun):
    """By torch in the precision of `x`; the evaluator's own places its samples in float32."""

    op_domain = ""

    def _run(self, x: Array, grid: Array, **attributes: Any) -> tuple[Array]:
        import torch

        mode = attributes.get("mode") or "linear"
        made = torch.nn.functional.grid_sample(
            torch.from_numpy(x),
            torch.from_numpy(grid.astype(x.dtype)),
            {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode),
            attributes.get("padding_mode") or "zeros",
            bool(attributes.get("align_corners")),
        )
        return (made.numpy(),)


class AffineGrid(OpRun):
    """By torch in the precision of `theta`; the evaluator's own places are float32."""

    op_domain = ""

    def _run(self, theta: Array, size: Array, align_corners: int | None = None) -> tuple[Array]:
        import torch

        made = torch.nn.functional.affine_grid(
            torch.from_numpy(theta), [int(n) for n in size], align_corners=bool(align_corners)
        )
        return (made.numpy(),)


class GlobalLpPool(OpRun):
    """The norm over all pixels, which the evaluator does not have."""

    op_domain = ""

    def _run(self, x: Array, p: int | None = None) -> tuple[Array]:
        order, axes = 2 if p is None else p, tuple(range(2, x.ndim))
        return (((np.abs(x) ** order).sum(axes, keepdims=True) ** (1 / order)).astype(x.dtype),)


class MeanVarianceNormalization(OpRun):
    """The definition; the constants of the evaluator's own are float32."""

    op_domain = ""

    def _run(self, x: Array, axes: list[int] | None = None) -> tuple[Array]:
        over = (0, 2, 3) if axes is None else tuple(axes)
        return (((x - x.mean(over, keepdims=True)) / (x.std(over, keepdims=True) + 1e-9)).astype(x.dtype),)


class ConvTranspose(OpRun):
    """The definition, one cell of the kernel after the other; the evaluator's own is wrong for several groups."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        spatial, group = x.ndim - 2, attributes.get("group") or 1
        strides, dilations = (attributes.get(name) or [1] * spatial for name in ("strides", "dilations"))
        pads, extra = (attributes.get(name) or [0] * 2 * spatial for name in ("pads", "output_padding"))
        counts, kernel = x.shape[2:], w.shape[2:]
        whole = [(counts[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(spatial)]
        mode, wished = attributes.get("auto_pad") or "NOTSET", attributes.get("output_shape")
        if wished is None and mode.startswith("SAME"):
            wished = [n * s for n, s in zip(counts, strides, strict=True)]
        if wished is not None:
            total = [max(n - w, 0) for n, w in zip(whole, wished, strict=True)]
            first = [n // 2 if mode == "SAME_UPPER" else n - n // 2 for n in total]
            pads = first + [n - lo for n, lo in zip(total, first, strict=True)]
            whole = [max(n, w) for n, w in zip(whole, wished, strict=True)]
        parted = x.reshape(x.shape[0], group, -1, *counts)
        weight = w.reshape(group, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], group, w.shape[1], *whole), x.dtype)
        for cell in np.ndindex(*kernel):
            part = np.einsum("ngi...,gio->ngo...", parted, weight[(slice(None),) * 3 + cell])
            begins = [cell[i] * dilations[i] for i in range(spatial)]
            at = (slice(lo, lo + (n - 1) * s + 1, s) for lo, n, s in zip(begins, counts, strides, strict=True))
            y[(slice(None),) * 3 + tuple(at)] += part
        inside = tuple(slice(pads[i], whole[i] - pads[i + spatial]) for i in range(spatial))
        y = y.reshape(x.shape[0], -1, *whole)[(slice(None),) * 2 + inside]
        return (y if b is None else y + b.reshape(-1, *[1] * spatial),)


class MaxPool(OpRun):
    """The definition, one cell of the window after the other; the evaluator's own indices forget items and channels."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        kernel = attributes["kernel_shape"]
        spatial = len(kernel)
        strides, dilations = (attributes.get(name) or [1] * spatial for name in ("strides", "dilations"))
        pads, mode = attributes.get("pads") or [0] * 2 * spatial, attributes.get("auto_pad") or "NOTSET"
        begins, counts = [], []
        for i, size in enumerate(x.shape[2:]):
            extent = (kernel[i] - 1) * dilations[i] + 1
            if mode.startswith("SAME"):
                counts.append(-(-size // strides[i]))
                total = max(0, (counts[i] - 1) * strides[i] + extent - size)
                begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
                continue
            begins.append(0 if mode == "VALID" else pads[i])
            room = size + (0 if mode == "VALID" else pads[i] + pads[i + spatial]) - extent
            counts.append(room // strides[i] + 1)
            started = (counts[i] * strides[i]) < size + begins[i]  # no window lies in the pads behind alone
            if attributes.get("ceil_mode") and room % strides[i] and started:
                counts[i] += 1
        flat, where = x.reshape(-1, *x.shape[2:]), np.arange(x.size).reshape(-1, *x.shape[2:])
        best, index = np.full((flat.shape[0], *counts), -np.inf), np.full((flat.shape[0], *counts), -1)
        for cell in np.ndindex(*kernel):
            at = [
                np.arange(n) * s + k * d - b
                for n, s, k, d, b in zip(counts, strides, cell, dilations, begins, strict=True)
            ]
            grid = (slice(None), *np.ix_(*[np.clip(a, 0, size - 1) for a, size in zip(at, x.shape[2:], strict=True)]))
            held = np.ones(counts, bool)
            for i, (a, size) in enumerate(zip(at, x.shape[2:], strict=True)):
                held &= ((a >= 0) & (a < size)).reshape([-1 if j == i else 1 for j in range(spatial)])
            better = held & (flat[grid] > best)
            best, index = np.where(better, flat[grid], best), np.where(better, where[grid], index)
        shape = (*x.shape[:2], *counts)
        made = (best.astype(x.dtype).reshape(shape), index.reshape(shape))
        return made[: len(self.onnx_node.output)]


class LpNormalization(OpRun):
    """`x / n`; the evaluator's own forgets the absolute value at p = 1."""

    op_domain = ""

    def _run(self, x: Array, axis: int | None = None, p: int | None = None) -> tuple[Array]:
        norm = np.linalg.norm(x, ord=2 if p is None else p, axis=-1 if axis is None else axis, keepdims=True)
        return (np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)).astype(x.dtype),)


class Mean(OpRun):
    """The mean of operands that broadcast; the evaluator's own adds into the first, which may be too small."""

    op_domain = ""

    def _run(self, *operands: Array) -> tuple[Array]:
        total = operands[0]
        for operand in operands[1:]:
            total = total + operand
        return ((total / len(operands)).astype(operands[0].dtype),)


class Pad(OpRun):
    """By numpy, and cutting where a pad is negative, which numpy cannot."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        pads: Array | None = None,
        value: Array | None = None,
        axes: Array | None = None,
        mode: str | None = None,
        **_: Any,
    ) -> tuple[Array]:
        given = np.asarray(pads).reshape(2, -1)
        chosen = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
        more, cut = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
        for i, axis in enumerate(chosen):
            lo, hi = (int(number) for number in given[:, i])
            more[axis] = (max(lo, 0), max(hi, 0))
            cut[axis] = slice(max(-lo, 0), x.shape[axis] + max(lo, 0) + max(hi, 0) - max(-hi, 0))
        if mode in {None, "constant"}:
            fill = 0.0 if value is None else np.asarray(value).item()
            return (np.pad(x, more, constant_values=fill)[tuple(cut)],)
        return (np.pad(x, more, mode=mode),)  # type: ignore[call-overload] # one of numpy's modes


OPERATORS: list[type[OpRun]] = [
    *(FusedMatMul, SimplifiedLayerNormalization, Erf, Gelu, GridSample, ConvTranspose, MaxPool, LpNormalization),
    *(Mean, Pad, AffineGrid, GlobalLpPool, MeanVarianceNormalization),
]


class Oracle:
    """`model` in numpy: named feeds in, named outputs out, in the precision of the feeds."""

    def __init__(self, model: ir.Model) -> None:
        self._evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=OPERATORS)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = self._evaluator.output_names
        return dict(zip(names, self._evaluator.run(None, dict(feeds)), strict=True))
