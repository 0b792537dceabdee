"""Equal round times: the least deadline at which every board does its part, and the most that it can do within it.

FedPipe (Fang et al., arXiv 2404.06448): ranks and batch of each board such that all take as long as each other, within
their memory, and a base of as many bits as that leaves. The paper states a mixed integer programme. It falls apart by
boards once the deadline is known, and what a board can do only grows with the deadline; so the deadline is bisected,
and each board's own choice is made exactly:

    most of  batch x covered importance   over split point, format, ranks and batch
    with     memory <= budget, time of a round <= deadline
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devices.split.frontier import Frontier
from devices.split.hsplitlora import Configured, configured, preference
from devices.split.offers import Offer

LONGEST_NS = 1 << 62


class Chooser:
    """What one board does within a deadline."""

    def __init__(self, offers: Sequence[Offer], frontier: Frontier, quants: Sequence[str]) -> None:
        """`offers` of all batches, each with the largest choice of ranks that its memory allows."""
        self.frontier, self.quants = frontier, quants
        bounds = [(offer.batch * self._covered(offer, offer.holding.largest), offer) for offer in offers]
        self._offers = sorted(bounds, key=lambda pair: pair[0], reverse=True)  # what can be worth most first

    def within(self, deadline_ns: int) -> Configured | None:
        """The round that is worth most; None if none is over by then.

        Of equals: see `devices.split.hsplitlora.preference`.
        """
        best: tuple[tuple[int, ...], Configured] | None = None
        for bound, offer in self._offers:
            if best is not None and bound < best[0][0]:
                break
            choices = self.frontier.of(offer.holding.count)
            index = min(offer.holding.largest, choices.within(offer.values_within(deadline_ns)))
            if index < 1:  # not even the smallest adapters
                continue
            made = configured(offer, self.frontier, index)
            key = (offer.batch * made.covered, *preference(made, self.quants))
            if best is None or key > best[0]:
                best = key, made
        return None if best is None else best[1]

    def worth(self, deadline_ns: int) -> int:
        """Batch times covered importance within a deadline; 0 where no round is over by then."""
        made = self.within(deadline_ns)
        return 0 if made is None else made.offer.batch * made.covered

    def full_ns(self) -> int:
        """The shortest round that covers as much of the importance as memory allows.

        Before it, a board would leave out what it has room for.
        """
        most = max(self._covered(offer, offer.holding.largest) for _, offer in self._offers)
        times = []
        for _, offer in self._offers:
            choices = self.frontier.of(offer.holding.count)
            index = int(choices.covered.searchsorted(most))
            if index <= offer.holding.largest:
                times.append(offer.round_ns(int(choices.values[index])))
        return min(times)

    def _covered(self, offer: Offer, index: int) -> int:
        return int(self.frontier.of(offer.holding.count).covered[index])


def least_deadline(choosers: Sequence[Chooser], work: int = 0) -> int | None:
    """The least deadline by which every board can cover all that it has room for, and all together do some work.

    Args:
        choosers: of the boards.
        work: batch times covered importance, summed over the boards.

    Returns:
        Nanoseconds; None where no deadline lets them do so much.
    """
    least = max(chooser.full_ns() for chooser in choosers)
    return bisected(lambda deadline: sum(c.worth(deadline) for c in choosers) >= work, least)


def bisected(enough: Callable[[int], bool], least: int, most: int = LONGEST_NS) -> int | None:
    """The least number from `least` to `most` that is enough, where all above it are too; None if none is.

    >>> bisected(lambda n: n * n >= 50, 3)
    8
    """
    if enough(least):
        return least
    if not enough(most):
        return None
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
