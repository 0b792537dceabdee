"""How far a sum under masks has come; it is kept with its round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from wire.masks.told import MOST_BOARDS, Told
from wire.record import at_least

Stage = Literal["keys", "shares", "masked", "agreed", "reveals"]
STAGES: tuple[Stage, ...] = ("keys", "shares", "masked", "agreed", "reveals")


@dataclass(frozen=True)
class Secure:
    """The terms and the stage of a sum, and who is in it, by name.

    Attributes:
        told: the terms, as the jobs say them.
        stage: what is being collected.
        roster: those whose keys came; they share their secrets with one another.
        maskers: those whose shares came; they mask against one another.
        survivors: those whose masked updates came; the sum is over them.
    """

    told: Told
    stage: Stage = "keys"
    roster: tuple[str, ...] = ()
    maskers: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SecureConfig:
    """The table `[secure]` of hub.toml."""

    required: bool = False
    threshold: int = field(default=0, metadata=at_least(0, MOST_BOARDS))
    bound: float = field(default=2.0**26, metadata=at_least(1.0, 2.0**40))
    rows: int = field(default=10_000, metadata=at_least(1, 1 << 24))
    clip: float = field(default=16.0, metadata=at_least(1e-6, 1e6))
    scalar_clip: float = field(default=1024.0, metadata=at_least(1e-6, 1e6))
    extra: dict[str, Any] = field(default_factory=dict)
