"""What is known of one format: a row of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from export.study.temperatures import AtTemperature
from quant.variants import Decisions

Z95 = 1.959963984540054  # of the standard normal distribution, two-sided


@dataclass(frozen=True)
class Share:
    """Hits among some, with the 95 % interval of Wilson (J. Am. Stat. Assoc. 22, 1927, p. 209).

    >>> share = Share(8, 10)
    >>> share.share, [round(end, 4) for end in share.interval]
    (0.8, [0.4902, 0.9433])
    """

    hits: int
    of: int

    @property
    def share(self) -> float:
        """Hits by all; NaN of none."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Within which the share of all such items lies, as far as these tell; right also for 0 and for all."""
        if not self.of:
            return 0.0, 1.0
        p, n, z2 = self.share, self.of, Z95 * Z95
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Quality:
    """How good a format's outputs are. What does not apply to a model is None.

    Attributes:
        accuracy: items whose largest logit is that of their label.
        perplexity: exp of the mean cross entropy of the next token, in nats.
        agreement: items (classes) or tokens (next tokens) whose largest logit is that of fp32.
        cosine: of an item's outputs with those of fp32, the mean over items.
        least_cosine: the least of them.
        not_numbers: items or tokens with NaN or infinity in an output; they agree with nothing.
        temperatures: what sampling sees, of decoders.
        decided: margins, and the items that are in another class than in fp32, numbered from 0 as they were judged.
    """

    accuracy: Share | None = None
    perplexity: float | None = None
    agreement: Share | None = None
    cosine: float | None = None
    least_cosine: float | None = None
    not_numbers: int = 0
    temperatures: tuple[AtTemperature, ...] = ()
    decided: Decisions | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: the median of some runs, and their quartiles."""

    median_s: float
    low_s: float
    high_s: float
    runs: int


@dataclass(frozen=True)
class Row:
    """One format.

    Attributes:
        format: its name.
        reason: why nothing was measured; empty where it was.
        stored_bytes: of all weights as stored, those that stayed as they were among them.
        weights: how many weights of two dimensions or more have which format: not all of them can take every one.
        sqnr_db: of the weights that changed, together; infinite where nothing is lost.
        worst: the weight with the least of it, and its SQNR in dB.
        quality: of the outputs.
        times: by the rows of a call.
    """

    format: str
    reason: str = ""
    stored_bytes: int = 0
    weights: Mapping[str, int] = field(default_factory=dict)
    sqnr_db: float | None = None
    worst: tuple[str, float] | None = None
    quality: Quality = field(default_factory=Quality)
    times: Mapping[int, Timing] = field(default_factory=dict)
