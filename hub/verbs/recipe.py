"""The options of `round open` that choose how many adapters become one (hub.recipe)."""

from __future__ import annotations

import argparse
from typing import Any

from console.arguments import Arguments
from hub.aggregation.methods import METHODS
from hub.heads import HEADS
from hub.recipe import Recipe

FIELDS = tuple(name for name in Recipe.__dataclass_fields__ if name != "extra")


def parse(opened: Arguments) -> None:
    """One option per field of a recipe; what is not given is what hub.toml says."""
    opened.add_argument("--aggregate", dest="method", choices=tuple(METHODS), help="how adapters become one")
    opened.add_argument("--head", choices=HEADS, help="statistics: how a head is made of the sums")
    opened.add_argument("--head-strength", type=float, help="of ridge, in mean squares of a feature")
    opened.add_argument("--head-order", type=int, help="of ridge; 0 is the plain one")


def recipe_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, by the recipe's names."""
    return {name: getattr(options, name) for name in FIELDS if getattr(options, name, None) is not None}
