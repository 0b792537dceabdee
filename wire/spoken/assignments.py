"""What a device is to run: a bundle, a release of the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from wire.record import DIGEST, NAME, at_least, matching


@dataclass(frozen=True)
class Assignment:
    """Hub: run this bundle; fetch over HTTPS what you lack of it. A higher `sequence` wins, as with releases."""

    TYPE: ClassVar[str] = "bundle"
    device: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    model: str = field(metadata=matching(NAME))
    bundle: str = field(metadata=matching(DIGEST))  # SHA-256 of its manifest.json
    where: tuple[str, ...] = ()  # HOST:PORT, in the order to try; without HOST: where the broker is
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Hub: be this release of the agent; fetch it over HTTPS. A higher `sequence` wins, as with bundles."""

    TYPE: ClassVar[str] = "program"
    device: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    release: str = field(metadata=matching(DIGEST))  # SHA-256 of its program.json
    where: tuple[str, ...] = ()  # HOST:PORT, in the order to try; without HOST: where the broker is
    extra: dict[str, Any] = field(default_factory=dict)
