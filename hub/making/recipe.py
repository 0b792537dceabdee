"""How a round makes one adapter out of its updates: what `[aggregation]` of hub.toml says, and a round may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from console.errors import BadData, UsageError
from hub.aggregation.methods import method_of
from hub.aggregation.optimisers.optimisers import optimiser_of
from hub.aggregation.robust import rules
from hub.aggregation.robust.rule import Bounds
from hub.making import heads
from wire.record import at_least, plain, read_record
from wire.thin.table import NONE, codec_of

NORM_WEIGHTED = ("hetlora",)


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
    server_rate: float | None = field(default=None, metadata=at_least(1e-6, 1e6))  # None: the optimiser's usual one
    server_cohort: int = field(default=0, metadata=at_least(0, 1_000_000))  # boards that the rate is meant for; 0: any
    server_beta1: float = field(default=0.9, metadata=at_least(0.0, 0.9999))
    server_beta2: float = field(default=0.99, metadata=at_least(0.0, 0.9999))
    thin: str = NONE  # how boards send what they learned
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

    @property
    def takes_the_mean(self) -> bool:
        """Whether a version is the mean itself: plain, at a rate of 1."""
        return self.optimiser == "plain" and self.server_rate in (None, 1.0) and not self.server_cohort


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
    method_of(recipe.method)
    heads.known(recipe.head)
    rules.known(recipe.robust)
    optimiser_of(recipe.optimiser)
    _known_thin(recipe.thin)
    _together(recipe)
    return recipe


def text(recipe: Mapping[str, Any]) -> str:
    """A recipe of a round of training for people, as `plain` gives it; what does nothing is left out.

    >>> text(plain(Recipe(robust="krum")))
    'stacking, weights by samples, krum'
    """
    parts = [recipe["method"], f"weights by {recipe['weights']}"]
    parts += [recipe["robust"]] if recipe["robust"] != "none" else []
    parts += [recipe["optimiser"]] if recipe["optimiser"] != "plain" else []
    thin = recipe.get("thin", NONE)
    parts += [f"sent as {thin}"] if thin != NONE else []
    return ", ".join(parts)


def fits(recipe: Recipe, settings: dict[str, Any]) -> None:
    """Check that a recipe can aggregate what a round of training brings.

    Raises:
        UsageError: it cannot.
    """
    if recipe.thin != NONE and settings.get("trainer", "backprop") != "backprop":
        raise UsageError(
            f"expected updates of {settings['trainer']} as they are, found thin ones ({recipe.thin}): scalars are "
            f"small already; add --thin none"
        )
    if recipe.thin != NONE and settings.get("prune_gamma", 1.0) < 1:
        raise UsageError(
            f"expected updates of the rank that was sent to send thin ones ({recipe.thin}), found pruning, which "
            f"lowers it; add --thin none, or leave out --prune-gamma"
        )
    if recipe.robust in rules.BY_NUMBERS and settings.get("head"):
        raise UsageError(
            f"expected a robust rule that weighs boards with --train-head, found {recipe.robust}: boards hold other "
            f"classes each, so the middle of most numbers of a head is nothing; choose cosine or clip-median"
        )


def _known_thin(name: str) -> None:
    if name != NONE:
        try:
            codec_of(name)
        except BadData as error:
            raise UsageError(str(error)) from error


def _together(recipe: Recipe) -> None:
    """Parts that exist one by one, but not together."""
    if recipe.robust in rules.BY_NUMBERS and recipe.method != "stacking":
        raise UsageError(
            f"expected method stacking with the robust rule {recipe.robust}, which takes the place of the mean of "
            f"whole products, found {recipe.method}; choose another rule or method"
        )
    if recipe.robust != "none" and recipe.method in NORM_WEIGHTED:
        raise UsageError(
            f"expected a method that counts boards by their shares with the robust rule {recipe.robust}, found "
            f"{recipe.method}, which counts them by the norm of what they send; choose another rule or method"
        )
    method = method_of(recipe.method)
    if method.one_factor and not recipe.takes_the_mean:
        raise UsageError(
            f"expected {method.name} with a plain step of 1, found {recipe.optimiser} with a step of its own: "
            f"others mix the factors; leave them out, or choose another method"
        )
