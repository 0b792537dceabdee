"""One farm per story."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.farm import Farm

MakeFarm = Callable[..., Farm]


@pytest.fixture
def make_farm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeFarm]:
    """A farm whose agents are all online; its books must be right when the story is over."""
    made: list[Farm] = []

    def make(**places: Any) -> Farm:
        farm = Farm(tmp_path, seed=len(request.node.name), **places)
        made.append(farm)
        farm.all_online()
        return farm

    try:
        yield make
    finally:
        for farm in made:
            farm.close()
