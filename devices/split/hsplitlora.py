"""Where a board's front ends and which ranks its adapters get: as much of the importance as its memory allows.

HSplitLoRA (Lin et al., arXiv 2505.02795), adaptive rank and model splitting: important weights get the higher ranks,
and of the feasible split points that is taken whose trainable weights have the largest importance. The paper spends
memory step by step; here every front is spent exactly (`devices.split.frontier`). The whole model is one more split
point, behind its last unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devices.split.frontier import Frontier
from devices.split.offers import Offer

Key = tuple[int, ...]


@dataclass(frozen=True)
class Configured:
    """A round of one board, with the choice of ranks: its index, its values, what it covers."""

    offer: Offer
    index: int
    values: int
    covered: int

    @property
    def round_ns(self) -> int:
        """With the adapters."""
        return self.offer.round_ns(self.values)


def configured(offer: Offer, frontier: Frontier, index: int) -> Configured:
    """An offer with one choice of ranks."""
    choices = frontier.of(offer.holding.count)
    return Configured(offer, index, int(choices.values[index]), int(choices.covered[index]))


def split_and_ranks(offers: Sequence[Offer], frontier: Frontier, quants: Sequence[str]) -> Configured | None:
    """What covers most of the importance; None where there are no offers.

    Args:
        offers: of one board, at one batch, each with the largest choice of ranks that its memory allows.
        frontier: of its slots.
        quants: formats, the preferred one first.

    Of equals: the preferred format, then fewest bytes across, then the shortest round, then the earliest border.
    """
    made = [configured(offer, frontier, offer.holding.largest) for offer in offers]
    return max(made, key=lambda c: (c.covered, *preference(c, quants)), default=None)


def preference(made: Configured, quants: Sequence[str]) -> Key:
    """Between choices that are worth the same."""
    offer = made.offer
    crossing = offer.up_bytes + offer.down_bytes
    return (-quants.index(offer.holding.quant), -crossing, -made.round_ns, -offer.holding.border, -made.values)
