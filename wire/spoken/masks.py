"""What hub and boards say for a sum under masks (wire.masks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from wire.record import NAME, at_least, matching
from wire.spoken.sender import Sender


@dataclass(frozen=True)
class MaskKeys:
    """Device: my job is done; these are my keys for a sum under masks (wire.masks). The hub relays it as it is."""

    TYPE: ClassVar[str] = "maskkeys"
    sender: Sender
    job: str
    round: int = field(metadata=at_least(0))
    sealing: bytes  # X25519, for what other boards seal to this one
    masking: bytes  # X25519, for the masks of pairs
    commitment: bytes  # SHA-256 of the seed of its own mask
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskShares:
    """Device: shares of my two secrets, each sealed to the board that it is for."""

    TYPE: ClassVar[str] = "maskshares"
    sender: Sender
    job: str
    sealed: dict[str, bytes]  # by whom it is for
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskAgreed:
    """Device: the survivors that I was told, as a tag for each of them that only it can check."""

    TYPE: ClassVar[str] = "maskagreed"
    sender: Sender
    job: str
    tags: dict[str, bytes]  # by whom it is for
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskReveal:
    """Device: my shares of the seeds of boards whose update came, and of the keys of those that dropped out."""

    TYPE: ClassVar[str] = "maskreveal"
    sender: Sender
    job: str
    seeds: dict[str, bytes]  # by whose it is
    keys: dict[str, bytes]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskRoster:
    """Hub: these boards take part in the sum; share your secrets with them."""

    TYPE: ClassVar[str] = "maskroster"
    device: str = field(metadata=matching(NAME))
    job: str
    keys: dict[str, bytes]  # by device, the envelope of its `maskkeys`
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskSealed:
    """Hub: what these boards sealed to you; mask your update against them, and against nobody else."""

    TYPE: ClassVar[str] = "masksealed"
    device: str = field(metadata=matching(NAME))
    job: str
    sealed: dict[str, bytes]  # by whom it is from
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskSurvivors:
    """Hub: the masked updates of these came, those of the others will not; agree on that with them."""

    TYPE: ClassVar[str] = "masksurvivors"
    device: str = field(metadata=matching(NAME))
    job: str
    survivors: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskOpen:
    """Hub: these survivors were told the same as you; reveal what opens the sum."""

    TYPE: ClassVar[str] = "maskopen"
    device: str = field(metadata=matching(NAME))
    job: str
    tags: dict[str, bytes]  # by whom it is from
    extra: dict[str, Any] = field(default_factory=dict)
