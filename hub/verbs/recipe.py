"""The options of `round open` that choose how many adapters become one (hub.making.recipe)."""

from __future__ import annotations

import argparse
from typing import Any

from console.arguments import Arguments
from hub.aggregation.methods import METHODS
from hub.aggregation.optimisers.optimisers import OPTIMISERS
from hub.aggregation.robust.rules import NAMES
from hub.aggregation.weights import WEIGHTS
from hub.making.heads import HEADS
from hub.making.recipe import Recipe
from wire.thin.table import WORDS

FIELDS = tuple(name for name in Recipe.__dataclass_fields__ if name != "extra")


def parse(opened: Arguments) -> None:
    """One option per field of a recipe; what is not given is what hub.toml says."""
    opened.add_argument("--aggregate", dest="method", choices=tuple(METHODS), help="how adapters become one")
    opened.add_argument("--weights", choices=WEIGHTS, help="what a device counts by")
    opened.add_argument("--weights-cap", type=float, help="times the median of all, at most; 0: no limit")
    opened.add_argument("--risk-power", type=float, help="of risk: the power of a device's loss")
    opened.add_argument("--robust", choices=NAMES, help="rule against bad devices")
    opened.add_argument("--robust-bad", type=int, help="how many devices may be bad")
    opened.add_argument("--robust-clip", type=float, help="longest change; of clip-median: times the median of all")
    opened.add_argument("--robust-cosine", type=float, help="smallest cosine with the middle of all changes")
    opened.add_argument("--optimiser", choices=tuple(OPTIMISERS), help="what the hub does with the mean change")
    opened.add_argument("--server-rate", type=float, help="of the optimiser (default: its usual one)")
    opened.add_argument("--server-cohort", type=int, help="devices that the rate is meant for; it grows by the root")
    opened.add_argument("--server-beta1", type=float, help="what remains of earlier changes")
    opened.add_argument("--server-beta2", type=float, help="what remains of the squares of earlier changes")
    said = "; ".join(f"{name}: {text}" for name, text in WORDS.items())
    opened.add_argument("--thin", metavar="CODEC", help=f"how devices send what they learned: {said}")
    opened.add_argument("--head", choices=HEADS, help="statistics: how a head is made of the sums")
    opened.add_argument("--head-strength", type=float, help="of ridge, in mean squares of a feature")
    opened.add_argument("--head-order", type=int, help="of ridge; 0 is the plain one")


def recipe_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, by the recipe's names."""
    return {name: getattr(options, name) for name in FIELDS if getattr(options, name, None) is not None}
