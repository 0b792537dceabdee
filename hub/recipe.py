"""How a round makes one adapter out of its updates: what `[aggregation]` of hub.toml says, and a round may change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from console.errors import BadData, UsageError
from hub import heads
from hub.aggregation.method import Method
from hub.aggregation.methods import method_of
from hub.aggregation.robust import rules
from hub.aggregation.robust.rule import Bounds
from wire.record import at_least, plain, read_record


@dataclass(frozen=True)
class Recipe:
    """The settings of an aggregation; it is kept with its round, so that a killed hub makes the same version."""

    method: str = "stacking"
    weights: Literal["samples", "risk", "uniform"] = "samples"
    weights_cap: float = field(default=10.0, metadata=at_least(0.0, 1e6))  # times the median of all; 0: no limit
    risk_power: float = field(default=1.0, metadata=at_least(0.0, 10.0))
    robust: str = "none"
    robust_bad: int = field(default=1, metadata=at_least(0, 10_000))  # boards that may be bad
    robust_clip: float = field(default=1.0, metadata=at_least(1e-9, 1e9))  # a length, or times the median of all
    robust_cosine: float = field(default=0.0, metadata=at_least(-1.0, 1.0))
    optimiser: str = "plain"
    server_rate: float = field(default=1.0, metadata=at_least(1e-6, 1e6))
    head: str = "auto"
    head_strength: float = field(default=0.1, metadata=at_least(0.0, 1e6))
    head_order: int = field(default=0, metadata=at_least(0, 100))
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def bounds(self) -> Bounds:
        """The numbers of its robust rule."""
        return Bounds(self.robust_bad, self.robust_clip, self.robust_cosine)

    @property
    def least(self) -> int:
        """How many updates its robust rule needs."""
        return rules.least(self.robust, self.bounds)


def chosen(usual: Recipe, given: dict[str, Any]) -> Recipe:
    """The recipe of a round: what hub.toml says, changed by what was asked for; everything in it is checked.

    Raises:
        UsageError: a name or a number that does not exist here, or parts that do not go together.
    """
    try:
        recipe = read_record(Recipe, {**plain(usual), **given}, "the recipe of the aggregation")
    except BadData as error:
        raise UsageError(str(error)) from error
    if recipe.extra:
        raise UsageError(f"expected settings of an aggregation, found {', '.join(recipe.extra)}; update the hub")
    _one_factor(method_of(recipe.method), recipe)
    heads.known(recipe.head)
    rules.known(recipe.robust)
    return recipe


def _one_factor(method: Method, recipe: Recipe) -> None:
    if method.one_factor and (recipe.optimiser != "plain" or recipe.server_rate != 1.0):
        raise UsageError(
            f"expected {method.name} with a plain step of 1, found {recipe.optimiser} with {recipe.server_rate:g}: "
            "others mix the factors; leave them out, or choose another method"
        )
