"""A world whose hub promises privacy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hub.privacy.settings import PrivacyConfig
from tests.hub.world import World


def promise(world: World, **told: Any) -> World:
    """Let its hub.toml say what is promised, and weigh boards alike."""
    settings = PrivacyConfig(**{"noise": 1.0, "clip": 0.5, "delta": 1e-5, **told})
    config = world.hub.home.config
    recipe = replace(config.aggregation, weights="uniform")
    world.hub.home.config = replace(config, privacy=settings, aggregation=recipe)
    return world
