"""The gradient of a whole weight, as low-rank factors, from graphs that return gradients of A and B only.

The randomized range finder of Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011,
arXiv 0909.4061, algorithms 4.1 and 4.4 (subspace iteration). A weight that is used as W + s A B has with G = dL/dW

    dL/dB = s AT G        dL/dA = s G BT

so columns Q in A beside rows of 0 in B leave the model as it is, and show QT G; rows VT in B beside columns of 0 in A
show G V. With Q drawn and V an orthonormal basis of the rows of QT G, G is about (G V) VT, and exactly that where there
are as many columns as G has ranks. The rank of G is at most the number of vectors that the layer saw: one for each row
of a convolution's window, or token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge.trainers.interface import Array
from wire.kinds.lora import Lora
from wire.ladder import spare_columns
from wire.philox import key_of

Float64 = NDArray[np.float64]
Factors = Mapping[str, Lora]
Probe = Callable[[Factors], Mapping[str, tuple[Array, Array]]]  # gradients of A and B by slot
Product = tuple[Float64, Float64]  # left [in, k], right [k, out]

ALIVE = 1e-6  # of the largest singular value: below it there is nothing but float32's rounding


def gradient(probe: Probe, held: Factors, columns: int, *, iterations: int = 0, seed: int = 0) -> dict[str, Product]:
    """The gradient of every slot's weight as a product of two thin matrices.

    Args:
        probe: the gradients of some loss with respect to the factors that it is given.
        held: factors that the model has; their scale must not be 0. Rank 0 will do.
        columns: k, the largest rank that is looked for; fewer where a slot has fewer inputs or outputs.
        iterations: more of them find the largest directions better where G has a rank above k.
        seed: of the first columns.

    Returns:
        By slot, left [in, k'] and right [k', out] with orthonormal rows, k' at most k; two runs of `probe`, and two
        more for each iteration.
    """
    across = {
        name: spare_columns(len(f.a), min(columns, len(f.a), f.b.shape[1]), key_of("sketch", name, seed))
        for name, f in held.items()
    }
    for again in range(iterations + 1):
        rows = _through(probe, held, across, rows=True)
        basis = {name: _orthonormal(found.T) for name, found in rows.items()}
        left = _through(probe, held, basis, rows=False)
        if again < iterations:
            across = {name: _orthonormal(found) for name, found in left.items()}
    return {name: (left[name], basis[name].T) for name in held}


def beside(factors: Lora, a: Float64, b: Float64) -> Lora:
    """Factors with more columns and rows behind their own: the product of these, times the scale, is added."""
    return Lora(
        np.concatenate([factors.a, a.astype(np.float32)], axis=1),
        np.concatenate([factors.b, b.astype(np.float32)]),
        factors.scale,
    )


def _through(probe: Probe, held: Factors, by_slot: Mapping[str, Float64], *, rows: bool) -> dict[str, Float64]:
    """QT G for columns Q in A (`rows`), or G V for rows VT in B, by slot."""
    fed = {}
    for name, f in held.items():
        given = by_slot[name]
        k, (inputs, outputs) = given.shape[1], (len(f.a), f.b.shape[1])
        fed[name] = beside(f, given, np.zeros((k, outputs))) if rows else beside(f, np.zeros((inputs, k)), given.T)
    found = probe(fed)
    shown = {}
    for name, f in held.items():
        of_a, of_b = found[name]
        part = of_b[f.rank :] if rows else of_a[:, f.rank :]
        shown[name] = part.astype(np.float64) / f.scale
    return shown


def _orthonormal(matrix: Float64) -> Float64:
    """A basis of the columns of a matrix [n, k]: [n, k'], without directions that are rounding."""
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return u[:, : int(np.count_nonzero(s > ALIVE * s[0]))] if s.size and s[0] > 0 else u[:, :0]
