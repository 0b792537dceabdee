"""Recipes tried on the validation part: the same choices for every method, and the best of each for the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.learning.bench import Bench
from bench.learning.heads import HEADS
from bench.learning.plans import runs_of, task_of
from bench.learning.recipes import Recipe
from hub.aggregation.methods import METHODS

JUDGED = HEADS[0]
SEEDS = (100,)  # rows and splits that no documented run has
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
ALONE_RATES = (5e-4, 1e-3, 2e-3, 4e-3)  # of one model that learns on and on
# rounds, local steps, rounds between two statistics passes, and the hub's step: as many rows in all, as many passes
PLANS = ((8, 8, 2, 1.0), (32, 2, 8, 1.0), (32, 2, 8, 2.0))


def grid(name: str) -> list[Recipe]:
    """The recipes that are tried for a method; one model that learns on and on has no rounds to choose."""
    if name not in METHODS:
        return [Recipe(rate, 32, 2, 8) for rate in ALONE_RATES]
    return [Recipe(rate, *plan) for plan in PLANS for rate in RATES]


def tried(bench: Bench, name: str, methods: Sequence[str] | None) -> list[dict[str, Any]]:
    """Every recipe of every method, judged on the validation part."""
    task = task_of(bench.pack, name, bench.thin)
    runs = [
        run
        for method in (methods or (*METHODS, "alone", "centralised"))
        for recipe in grid(method)
        for run in runs_of(task, {method: recipe}, SEEDS)
    ]
    return bench.finished(task, runs, "validation")


def best(found: list[dict[str, Any]]) -> str:
    """The best recipe of each method as TOML: by the mean over splits, under the head that they train against."""
    by_recipe: dict[tuple[str, str, Recipe], list[float]] = {}
    for one in found:
        if "recipe" in one:
            recipe = Recipe(**one["recipe"])
            by_recipe.setdefault((one["task"], one["name"], recipe), []).append(one["accuracy"][JUDGED])
    winners: dict[tuple[str, str], Recipe] = {}
    for (task, name, recipe), right in sorted(by_recipe.items(), key=lambda item: float(np.mean(item[1]))):
        winners[task, name] = recipe
        del right
    pieces = []
    for (task, name), recipe in sorted(winners.items()):
        own = "".join(f"{key} = {value!r}\n" for key, value in asdict(recipe).items())
        pieces.append(f"[{task}.{name}]\n{own}")
    return "\n".join(pieces)
