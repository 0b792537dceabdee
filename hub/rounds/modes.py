"""How a round goes on from version to version, from what people ask for; the table itself is hub.rounds.table."""

from __future__ import annotations

import math
from typing import Any

from console.errors import UsageError
from hub.aggregation.methods import method_of
from hub.aggregation.robust.rules import BY_NUMBERS, enough
from hub.making.recipe import Recipe
from wire.messages import JobKind

Row = dict[str, Any]
STALENESS = 8  # versions that an update of a buffered round may have missed, if nobody says otherwise
LIMITS = {"laps": (0, 1_000_000), "buffer": (1, 100_000), "staleness": (0, 1000), "over": (0.0, 10.0)}


def mode_of(told: Row, kind: JobKind, share: float, devices: int, wanted: int, settings: Row, recipe: Recipe) -> Row:
    """The fields of a round that say how many versions it makes, and of how many updates each.

    Args:
        told: mode, buffer, laps, staleness, over; what is None or absent is as usual.
        kind: of its jobs.
        share: quorum of hub.toml.
        devices: how many are asked.
        wanted: how many answers are wanted (fewer than are asked: over-selection).
        settings: of its jobs.
        recipe: of its aggregation.

    Raises:
        UsageError: a number out of its range, or parts that do not go together.
        HubError: fewer updates than the robust rule needs.
    """
    given = {name: told[name] for name in ("mode", *LIMITS) if told.get(name) is not None}
    for name, (low, high) in LIMITS.items():
        if name in given and not low <= given[name] <= high:
            raise UsageError(f"expected {name} of {low} to {high}, found {given[name]}")
    buffered = given.get("mode", "synchronous") == "buffered"
    laps = int(given.get("laps", 0 if buffered else 1))
    if kind != "train" and (buffered or laps != 1):
        raise UsageError(f"expected a round of training to make several versions, found {kind}; open a train round")
    method = method_of(recipe.method)
    if laps != 1 and method.trains(0) != method.trains(1):
        raise UsageError(
            f"expected a method that trains the same in every lap, found {method.name}, which alternates; open its "
            f"rounds one by one"
        )
    if buffered:
        return _buffered(given, share, devices, laps, settings, recipe)
    if given.get("mode", "synchronous") != "synchronous":
        raise UsageError(f"expected synchronous or buffered as a mode, found {given['mode']!r}")
    strange = [name for name in ("buffer", "staleness") if name in given]
    if strange:
        raise UsageError(f"expected {' and '.join(strange)} with a buffered round only; add --mode buffered")
    goal = wanted if wanted < devices else 0
    return {"laps": laps, "goal": goal, "quorum": _quorum(kind, share, goal or devices, recipe)}


def _buffered(given: Row, share: float, devices: int, laps: int, settings: Row, recipe: Recipe) -> Row:
    size = int(given.get("buffer", max(1, devices // 2)))
    if size > devices:
        raise UsageError(f"expected a buffer of at most the {devices} devices that are asked, found {size}; lower it")
    if given.get("over"):
        raise UsageError("expected over-selection in a synchronous round, found a buffered one; leave out --over")
    if method_of(recipe.method).apply_stale is None:
        raise UsageError(
            f"expected a method that can add an update of an older version in a buffered round, found {recipe.method}; "
            f"take stacking or nested-ffa, or a synchronous round"
        )
    if recipe.robust in BY_NUMBERS:
        raise UsageError(
            f"expected a rule that weighs whole updates in a buffered round, found {recipe.robust}; take krum, "
            f"geometric-median, or a synchronous round"
        )
    if settings.get("kinds", ["lora"]) != ["lora"] or settings.get("head") or settings.get("trainer") == "qzo":
        raise UsageError(
            "expected factors alone in a buffered round, found biases, heads or scales; open a synchronous one"
        )
    return {
        "mode": "buffered",
        "goal": size,
        "laps": laps,
        "staleness": int(given.get("staleness", STALENESS)),
        "quorum": _quorum("train", share, size, recipe),
    }


def _quorum(kind: JobKind, share: float, size: int, recipe: Recipe) -> int:
    """How many of so many updates must come, or nothing is made of them."""
    if kind == "train":
        enough(recipe.robust, recipe.bounds, size)
    return max(1, math.ceil(share * size), recipe.least if kind == "train" else 1)
