"""Blocks by error feedback: each column is rounded, and the columns that follow take up what it lost.

Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323, algorithm 1. Minimises |X W^T - X W'^T|^2 = tr((W - W') H (W - W')^T) with
H = X^T X over calibration rows X:

    H   <- H + damping mean(diag H) I                               (section 3.3, step 3)
    R   =  upper Cholesky factor of H^-1,  R^T R = H^-1
    for each column j:
        q_j =  nearest to w_j on the grid of its block
        e   =  (w_j - w'_j) / R_jj
        w_k <- w_k - e R_jk   for k > j                             (lazily, 128 columns at a time, step 2)

Columns are taken in order of falling H_jj (what the authors' code calls act-order), so that the inputs that count
most are rounded while there are still columns to take up the error. Scales are fixed beforehand, from the weights
as they are: a block keeps its place whatever the order, and no permutation has to be stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quant.blocks import Blocks, Float64, checked, grid, in_blocks
from quant.loss import calibration

LAZY = 128
DAMPING = 0.01


def hessian(inputs: npt.ArrayLike, columns: int, before: Float64 | None = None) -> Float64:
    """X^T X of calibration rows, added to that of the rows before.

    Args:
        inputs: [..., columns], what a layer was fed.
        columns: of the weight.
        before: [columns, columns] from earlier rows.

    Raises:
        ValueError: the rows are not finite, not of that length, or there are none.

    >>> hessian([[1.0, 2.0]], 2).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    x = calibration(inputs, columns)
    gram = np.asarray(x.T @ x)
    return gram if before is None else before + gram


def quantize_gptq(
    weight: npt.ArrayLike,
    h: npt.ArrayLike,
    bits: int = 4,
    block: int = 32,
    symmetric: bool = True,
    damping: float = DAMPING,
) -> Blocks:
    """Blocks that lose little of a layer's outputs on calibration rows.

    Args:
        weight: [rows, columns], finite.
        h: X^T X of what the layer was fed, [columns, columns]. Columns that were always fed 0 are rounded
            (the paper's code sets their weights to 0, which is wrong as soon as they are fed anything).
        bits: 4 or 8.
        block: 16, 32, 64 or 128 columns; must divide them.
        symmetric: without zero points.
        damping: share of the mean of diag H that is added to it.

    Raises:
        ValueError: as `quantize_blocks`; or h has another shape, is not finite, not symmetric, all zero, or is no
            X^T X.

    >>> eye = quantize_gptq([[0.0] * 15 + [8.0]], np.eye(16), block=16)
    >>> eye.q[0, 14:].tolist()
    [8, 0]
    """
    w = checked(weight, bits, block).astype(np.float64)
    gram = _gram(h, w.shape[1])
    scale, zero = grid(in_blocks(w, block), bits, symmetric)
    order = np.argsort(-np.diag(gram), kind="stable")
    factor = _factor(gram[np.ix_(order, order)], damping)
    # per column in processing order; integers exactly as dequantization will see them
    scales, zeros = (np.repeat(a.astype(np.float64), block, axis=1)[:, order] for a in (scale, zero))
    q = np.empty(w.shape, np.uint8)
    q[:, order] = feed_back(w[:, order], factor, scales, zeros, 2**bits - 1)
    return Blocks(q, scale, zero, bits, block, symmetric)


def feed_back(w: Float64, factor: Float64, scales: Float64, zeros: Float64, last: int) -> npt.NDArray[np.uint8]:
    """The loop of algorithm 1 over columns from left to right.

    Args:
        w: [rows, columns]; changed.
        factor: upper triangular R [columns, columns], R^T R = H^-1.
        scales: [rows, columns].
        zeros: [rows, columns].
        last: the largest integer of the grid.
    """
    q = np.empty(w.shape, np.uint8)
    errors = np.empty((len(w), LAZY))
    for start in range(0, w.shape[1], LAZY):
        end = min(start + LAZY, w.shape[1])
        for j in range(start, end):
            level = np.clip(np.rint(w[:, j] / scales[:, j] + zeros[:, j]), 0, last)
            q[:, j] = level
            error = (w[:, j] - scales[:, j] * (level - zeros[:, j])) / factor[j, j]
            w[:, j + 1 : end] -= np.outer(error, factor[j, j + 1 : end])
            errors[:, j - start] = error
        w[:, end:] -= errors[:, : end - start] @ factor[start:end, end:]
    return q


def _gram(h: npt.ArrayLike, columns: int) -> Float64:
    gram = np.array(h, np.float64)
    if gram.shape != (columns, columns):
        raise ValueError(f"expected X^T X of shape {(columns, columns)}, found {gram.shape}")
    if not np.all(np.isfinite(gram)):
        raise ValueError("expected a finite X^T X, found NaN or infinity")
    if np.max(np.abs(gram - gram.T)) > 1e-6 * max(1e-300, float(np.max(np.abs(gram)))):
        raise ValueError("expected a symmetric X^T X, found another matrix")
    if not np.any(gram):
        raise ValueError("expected calibration rows that are not all zero, found an X^T X of zeros")
    return gram


def _factor(gram: Float64, damping: float) -> Float64:
    """R upper triangular with R^T R = (gram + damping)^-1, by one Cholesky factorization.

    With J the reversal of order, J gram J = L L^T gives gram = U U^T with U = J L J upper, and R = U^-1.
    """
    diagonal = np.diag(gram)
    damped = gram + damping * float(np.mean(diagonal)) * np.eye(len(gram))
    try:
        lower = np.linalg.cholesky(damped[::-1, ::-1])
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"expected X^T X of calibration rows, found a matrix with negative directions: {error}"
        ) from error
    return np.asarray(np.triu(np.linalg.inv(lower[::-1, ::-1])))
