"""Who speaks, in every message of a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wire.record import NAME, at_least, matching


@dataclass(frozen=True)
class Sender:
    """Who speaks, since which start of the program, and the how many-th message since then."""

    device: str = field(metadata=matching(NAME))
    boot: str
    sequence: int = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)
