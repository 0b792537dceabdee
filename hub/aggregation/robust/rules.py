"""The robust rules by name: those that give shares, and those that look at each number by itself."""

from __future__ import annotations

from console.errors import HubError, UsageError
from hub.aggregation.robust import clipping, coordinates, cosine, geometric_median, krum
from hub.aggregation.robust.coordinates import ByNumbers
from hub.aggregation.robust.rule import Bounds, Rule

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        clipping.FIXED,
        clipping.BY_MEDIAN,
        krum.KRUM,
        krum.MULTI_KRUM,
        geometric_median.RULE,
        cosine.RULE,
    )
}
BY_NUMBERS: dict[str, ByNumbers] = {rule.name: rule for rule in (coordinates.MEDIAN, coordinates.TRIMMED_MEAN)}
MEDIANS = (geometric_median.RULE.name, coordinates.MEDIAN.name)  # hold against less than half of all shares
NAMES = ("none", *RULES, *BY_NUMBERS)


def known(name: str) -> None:
    """Check the name of a rule.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in NAMES:
        raise UsageError(f"expected a robust rule among {', '.join(NAMES)}, found {name!r}")


def least(name: str, bounds: Bounds) -> int:
    """How many updates a rule needs.

    >>> least("none", Bounds()), least("krum", Bounds(bad=2))
    (1, 7)
    """
    rule = RULES.get(name) or BY_NUMBERS.get(name)
    return rule.least(bounds) if rule else 1


def enough(name: str, bounds: Bounds, count: int) -> None:
    """Check that there are as many updates as a rule needs.

    Raises:
        HubError: there are not.
    """
    needed = least(name, bounds)
    if count < needed:
        against = f" against {bounds.bad} bad" if least(name, Bounds(bounds.bad + 1)) > needed else ""
        raise HubError(
            f"expected at least {needed} updates for the robust rule {name}{against}, found {count}; ask more devices, "
            f"or choose another rule"
        )
