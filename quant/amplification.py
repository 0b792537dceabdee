"""How much a net amplifies small noise on its input, and whether a variant of it does so much more.

Evangelista, Nagy, Morotti and Loli Piccolomini, "To be or not to be stable, that is the question: understanding
neural networks for inverse problems", arXiv:2211.13692 (SIAM J. Sci. Comput. 47(1), 2025), call

    C_eps = sup over x and |e| <= eps of (|psi(A x + e) - x| - eta) / |e|

the stability constant of a reconstructor psi whose error without noise is eta; the same group's "Ambiguity in
solving imaging inverse problems with deep learning-based operators", arXiv:2305.19774, judges networks by it. Here f
itself says what is right without noise, so eta = 0, and the sup is sampled: real x, Gaussian e of one size, and

    amplification = (|f(x + e) - f(x)| / |f(x)|) / (|e| / |x|)

per sample and draw: its median, and its 95 % quantile in the place of the sup. The variant's own f(x) is subtracted
from the variant: what it loses without noise is another figure (`quant.loss`), and would hide the noise here.
Differences are relative so that one bar serves every model. Both nets get the same noise, so that what chance adds
to one it adds to the other.

Sizes: where only weights are rounded, f is as smooth as before, and 0.1 % and 1 % are small and far above float32.
Where activations are rounded to 8 bits, a step is 2 max|x| / 255, one or two per cent of a typical entry and more where
few entries are large: noise moves some entries over a whole step, which moves the output by a share r of it however
small the noise is. That r is what rounding costs without noise as well, and would pass for amplification. There two
sizes are taken, 3 % and 20 %, and the two parts are told apart: what rounding adds is independent of what noise adds,

    d_i^2 = (a s_i)^2 + r^2   with   d_i = |f(x + e) - f(x)| / |f(x)| at the size s_i,

so a^2 = (d_2^2 - d_1^2) / (s_2^2 - s_1^2) is the amplification without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wire.philox import key_of

SIZES = (1e-3, 1e-2)  # |e| / |x|
ROUNDED_SIZES = (3e-2, 2e-1)  # of nets that round their activations
DRAWS = 3
HIGH = 0.95  # the quantile that stands for the sup
GROWTH_BAR = 1.2
NIL = 1e-3  # less is nothing: at 0.1 % of noise the output then changes by one part in a million, as float32 rounds

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Amplification:
    """How much noise of one size is amplified, relative to input and output: the median and the 95 % quantile."""

    size: float
    median: float
    high: float


@dataclass(frozen=True)
class Growth:
    """What the gate found: where a variant amplifies most above the exact net, and by how much.

    Attributes:
        size: of the noise, relative to the input.
        high: whether it is the 95 % quantile that grew most, not the median.
        exact: that figure of the exact net.
        variant: the same of the variant.
        ratio: variant / exact, where less than `NIL` counts as that.
        bar: what the ratio may be.
    """

    size: float
    high: bool
    exact: float
    variant: float
    ratio: float
    bar: float = GROWTH_BAR

    @property
    def passes(self) -> bool:
        """Whether the variant amplifies hardly more than the exact net; never where a figure is NaN."""
        return self.ratio <= self.bar


def noised(x: npt.ArrayLike, size: float, *key: str | int) -> npt.NDArray[np.floating]:
    """An array with Gaussian noise on it, of `size` times the length of each row.

    Args:
        x: float [rows, ...].
        size: |e| / |x|, of every row.
        key: what the noise is drawn from (Philox): the same words give the same noise.

    >>> x = np.array([[3.0, 4.0], [0.0, 0.0]])
    >>> e = noised(x, 0.01, "doc", 0) - x
    >>> np.linalg.norm(e, axis=1).round(6).tolist()
    [0.05, 0.0]
    """
    given = np.asarray(x)
    rows = _rows(given)
    drawn = np.random.Generator(np.random.Philox(key=key_of("amplification", *key))).standard_normal(rows.shape)
    drawn *= size * _lengths(rows) / np.maximum(_lengths(drawn), np.finfo(np.float64).tiny)
    return np.asarray((rows + drawn).reshape(given.shape).astype(given.dtype))


def changes(before: npt.ArrayLike, after: npt.ArrayLike, *, by_row: bool = True) -> Float64:
    """|after - before| / |before| of each row, or of the whole: float64 [n].

    NaN where `before` is zero, for which there is no such figure; infinity where `after` is not finite.

    Args:
        before: [rows, ...].
        after: of the same shape.
        by_row: whether rows are samples.

    >>> changes([[3.0, 4.0], [0.0, 0.0]], [[3.0, 4.5], [1.0, 0.0]]).tolist()
    [0.1, nan]
    """
    b, a = (_rows(np.asarray(x), by_row=by_row) for x in (before, after))
    length, moved = _lengths(b)[:, 0], _lengths(a - b)[:, 0]
    moved = np.where(np.isfinite(moved), moved, np.inf)
    return np.asarray(np.divide(moved, length, out=np.full(len(length), np.nan), where=length > 0))


def summed(size: float, ratios: npt.ArrayLike) -> Amplification:
    """Median and 95 % quantile of amplifications under noise of one size: (change of y) / (change of x), see `changes`.

    Raises:
        ValueError: there is none.

    >>> summed(0.01, [1.0, 2.0, 3.0]).median
    2.0
    """
    r = np.asarray(ratios, np.float64).ravel()
    if not r.size:
        raise ValueError("expected at least one sample whose input and output are not zero, found none")
    return Amplification(size, float(np.median(r)), float(np.quantile(r, HIGH)))


def growth(
    exact: Sequence[Amplification],
    variant: Sequence[Amplification],
    *,
    rounded: bool = False,
    bar: float = GROWTH_BAR,
) -> Growth:
    """The gate: the size of noise, and median or 95 % quantile, at which a variant is furthest above the exact net.

    Args:
        exact: of the exact net, by size.
        variant: of the variant, with the same sizes.
        rounded: whether the variant rounds activations; medians without what that adds are then compared.
        bar: what the ratio may be.

    Raises:
        ValueError: there is no size (or fewer than two for `rounded`), or the two were not measured with the same ones.

    >>> growth([Amplification(0.01, 2.0, 2.5)], [Amplification(0.01, 3.0, 3.5)]).ratio
    1.5
    """
    sizes = [[one.size for one in each] for each in (exact, variant)]
    if not exact or sizes[0] != sizes[1]:
        raise ValueError(f"expected both nets with noise of the same sizes, found {sizes[0]} and {sizes[1]}")
    if rounded:
        figures = [(sizes[0][-1], False, without_rounding(exact)[0], without_rounding(variant)[0])]
    else:
        pairs = list(zip(exact, variant, strict=True))
        figures = [(e.size, False, e.median, v.median) for e, v in pairs]
        figures += [(e.size, True, e.high, v.high) for e, v in pairs]
    found = [Growth(*one, ratio=heard(one[3]) / heard(one[2]), bar=bar) for one in figures]
    return max(found, key=lambda one: np.inf if np.isnan(one.ratio) else one.ratio)


def without_rounding(found: Sequence[Amplification]) -> tuple[float, float]:
    """Median amplification a, and the share r of the output that rounding activations alone moves.

    From the first and the last size. Where the larger noise moves the output less than the smaller, a is zero.

    Raises:
        ValueError: there are no two sizes in ascending order.

    >>> a, r = without_rounding([Amplification(s, (4 + (0.1 / s) ** 2) ** 0.5, 0.0) for s in (0.03, 0.2)])
    >>> round(a, 6), round(r, 6)
    (2.0, 0.1)
    """
    first, last = found[0], found[-1]
    apart = last.size**2 - first.size**2
    if apart <= 0:
        raise ValueError(f"expected noise of two sizes, the larger one last, found {[one.size for one in found]}")
    d1, d2 = ((one.median * one.size) ** 2 for one in (first, last))
    slope, rest = (d2 - d1) / apart, (d1 * last.size**2 - d2 * first.size**2) / apart
    # NaN stays NaN: it must not pass for nothing
    return float(np.sqrt(np.maximum(slope, 0.0))), float(np.sqrt(np.maximum(rest, 0.0)))


def heard(amplification: float) -> float:
    """An amplification that ratios are formed with: at least `NIL`.

    >>> heard(0.5), heard(0.0)
    (0.5, 0.001)
    """
    return float(np.maximum(amplification, NIL))


def _rows(a: npt.NDArray[np.generic], *, by_row: bool = True) -> Float64:
    """As float64 [rows, numbers]; a scalar or what is one row only is [1, numbers]."""
    rows = a.shape[0] if by_row and a.ndim else 1
    return a.reshape(rows, -1).astype(np.float64)


def _lengths(rows: Float64) -> Float64:
    return np.asarray(np.linalg.norm(rows, axis=1, keepdims=True))
