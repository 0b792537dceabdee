"""What is run: rows, boards, budgets and rates, from the file that is frozen before the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.toml import read_toml
from wire.record import at_least, read_record

FROZEN = Path(__file__).parents[1] / "splitting_recipes.toml"
METHODS = ("planned", "uniform", "hetlora", "hetlora-tail", "equal", "centralised")
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)  # of which `--choose` takes one


@dataclass(frozen=True)
class Recipe:
    """Of one task.

    Attributes:
        budgets: of the fronts of the boards, in float32 weights of a block.
        targets: modules that get a slot, as the exporter reads it.
        tokens: of a row, at most.
        batch: rows of a step.
        rounds: how many.
        steps: of each board in a round.
        rows: of all boards together.
        proxy_rows: on which importance is measured before the first round.
        validation_rows: on which a run is judged after every round.
        test_rows: on which it is judged at its end.
        rates: of learning, by method.
    """

    budgets: tuple[float, ...]
    targets: str
    rates: dict[str, float] = field(metadata=at_least(1e-6, 1.0))
    tokens: int = field(default=64, metadata=at_least(2))
    batch: int = field(default=8, metadata=at_least(1))
    rounds: int = field(default=12, metadata=at_least(1))
    steps: int = field(default=6, metadata=at_least(1))
    rows: int = field(default=2000, metadata=at_least(1))
    proxy_rows: int = field(default=64, metadata=at_least(2))
    validation_rows: int = field(default=200, metadata=at_least(1))
    test_rows: int = field(default=400, metadata=at_least(1))
    boards: int = field(default=5, metadata=at_least(1))


def read(path: Path = FROZEN) -> dict[str, Recipe]:
    """Recipes by task."""
    tables: dict[str, Any] = read_toml(path)
    return {task: read_record(Recipe, table, f"{path.name}: {task}") for task, table in tables.items()}
