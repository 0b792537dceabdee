"""How each method learns: rates and rounds, from the file that is frozen before the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.toml import read_toml
from wire.record import at_least, read_record

FROZEN = Path(__file__).parents[1] / "learning_recipes.toml"


@dataclass(frozen=True)
class Recipe:
    """Rounds of local steps.

    Attributes:
        rate: of learning at the first round; it falls to a tenth.
        rounds: how many.
        steps: of each board in a round.
        refresh: rounds between two statistics passes.
        server_rate: step of the hub along the aggregate.
        batch: rows of a step.
        boards: how many share the work.
    """

    rate: float = field(metadata=at_least(1e-6, 1.0))
    rounds: int = field(default=8, metadata=at_least(1))
    steps: int = field(default=8, metadata=at_least(1))
    refresh: int = field(default=2, metadata=at_least(1))
    server_rate: float = 1.0
    batch: int = 16
    boards: int = 5


def read(path: Path = FROZEN) -> dict[str, dict[str, Recipe]]:
    """Recipes by task and name."""
    tables: dict[str, Any] = read_toml(path)
    return {
        task: {name: read_record(Recipe, own, f"{path.name}: {task}.{name}") for name, own in recipes.items()}
        for task, recipes in tables.items()
    }
