"""What a quantized variant does to noise and to decisions, as a bundle's manifest holds it: `verified.variant`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from quant.amplification import Amplification, growth, without_rounding
from quant.geometry import Geometry
from quant.variants import ClassAngles, Flip
from wire.record import at_least

MOST_FLIPS = 20  # listed in a manifest; all are counted


@dataclass(frozen=True)
class Amplified:
    """Amplification of noise of one size (relative to what it was put on): medians, and 95 % quantiles."""

    size: float = field(metadata=at_least(0))
    exact: float = field(metadata=at_least(0))
    variant: float = field(metadata=at_least(0))
    exact_high: float = field(metadata=at_least(0))
    variant_high: float = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Noise:
    """How noise is amplified in fp32 and in the shipped graphs, see `quant.amplification`.

    Attributes:
        enters: the tensors that noise was put on.
        output: the one whose amplification grew most.
        sizes: of the noise, one or more.
        growth: the largest of variant / exact.
        bar: above this it is reported.
        rounding: the share of the output that rounding activations alone moves, where the variant does that.
    """

    enters: tuple[str, ...]
    output: str
    sizes: tuple[Amplified, ...]
    growth: float = field(metadata=at_least(0))
    bar: float = field(metadata=at_least(0))
    rounding: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """Whether the variant amplifies hardly more than fp32."""
        return self.growth <= self.bar


@dataclass(frozen=True)
class Decided:
    """Classes in fp32 and in the variant, see `quant.variants.Decisions`; `flips` are the first `MOST_FLIPS`."""

    output: str
    samples: int = field(metadata=at_least(1))
    classes: int = field(metadata=at_least(2))
    flipped: int = field(metadata=at_least(0))
    flips: tuple[Flip, ...]
    quantiles: tuple[float, ...]
    exact_margins: tuple[float, ...]
    variant_margins: tuple[float, ...]
    angles: ClassAngles | None = None
    geometry: Geometry | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Turned:
    """Degrees between what fp32 and the variant say of a sample, see `quant.variants.Turn`."""

    output: str
    samples: int = field(metadata=at_least(1))
    median: float = field(metadata=at_least(0))
    most: float = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """All of it; `unmeasured` says why there is no figure about noise."""

    noise: Noise | None = None
    unmeasured: str = ""
    decided: Decided | None = None
    turned: Turned | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def noise_of(
    enters: tuple[str, ...],
    output: str,
    exact: Sequence[Amplification],
    variant: Sequence[Amplification],
    *,
    rounded: bool = False,
) -> Noise:
    """A record of what was measured; `rounded`: the variant rounds activations.

    >>> noise_of(("x",), "y", [Amplification(0.01, 2.0, 2.5)], [Amplification(0.01, 3.0, 3.5)]).growth
    1.5
    """
    sizes = tuple(Amplified(e.size, e.median, v.median, e.high, v.high) for e, v in zip(exact, variant, strict=True))
    found = growth(exact, variant, rounded=rounded)
    rounding = without_rounding(variant)[1] if rounded else None
    return Noise(enters, output, sizes, found.ratio, found.bar, rounding)


def noise_words(quant: str, noise: Noise) -> str:
    """What a variant does to noise, in one sentence.

    >>> noise_words("int8", Noise(("x",), "y", (), 1.5, 1.2))
    'int8 amplifies small noise on x 1.50 times as much as fp32 (bar 1.2, at y)'
    """
    entered = ", ".join(noise.enters)
    rounding = "" if noise.rounding is None else f", rounding alone moves it by {noise.rounding:.1%}"
    return (
        f"{quant} amplifies small noise on {entered} {noise.growth:.2f} times as much as fp32 "
        f"(bar {noise.bar:g}, at {noise.output}{rounding})"
    )


def variant_words(quant: str, found: Variant) -> Iterator[str]:
    """All of a variant, a line for noise and one for decisions.

    >>> list(variant_words("int8", Variant(unmeasured="every output is zero")))
    ['noise was not measured: every output is zero']
    """
    if found.noise is not None:
        yield noise_words(quant, found.noise)
    elif found.unmeasured:
        yield f"noise was not measured: {found.unmeasured}"
    if found.decided is not None:
        yield f"{found.decided.flipped} of {found.decided.samples} samples in another class than in fp32"
    if found.turned is not None:
        degrees = f"{found.turned.median:.2f} degrees, at most {found.turned.most:.2f}"
        yield f"{found.turned.output} of {found.turned.samples} samples turned by {degrees}"
