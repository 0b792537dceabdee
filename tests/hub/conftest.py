"""A hub and three unequal devices on the in-memory network, with a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub import registry
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from wire.keys import new_key, write_key


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    """Make a hub folder with a bundle and devices; the keyword arguments go to the network."""
    made = 0

    def make(biases: dict[str, int] | None = None, **network: float) -> World:
        nonlocal made
        made += 1
        folder = tmp_path / f"world-{made}"
        publisher = new_key("publisher", "acme")
        _, public = write_key(publisher, folder)
        registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
        bundle = write_bundle(folder / "bundle", publisher, *manifest(biases=biases))
        home = registry.open_home(folder / "hub")
        registry.add_bundle(home, bundle)
        home.ledger.close()
        return World(folder, publisher, **network)

    return make
