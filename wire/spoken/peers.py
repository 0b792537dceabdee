"""What the two halves of a split job say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wire.record import NAME, at_least, matching
from wire.spoken.sender import Sender

PART_LIMIT_BYTES = 512 << 10  # of a crossing: two of them on the way stay below every broker's limits
STREAM = r"[0-9a-f]{16}"


@dataclass(frozen=True)
class Crossing:
    """Device to device: what one half of a split job says to the other, numbers at the border or a few words, in parts.

    Counted from 0 in each direction (`number`, one for each part), taken in order and once, said again until it came.
    """

    TYPE: ClassVar[str] = "crossing"
    sender: Sender
    job: str  # the board's, on both sides
    stream: str = field(metadata=matching(STREAM))  # of the sender, drawn when its half of the job begins
    answers: str = field(metadata=matching(STREAM))  # the stream of the receiver
    number: int = field(metadata=at_least(0))
    what: str = field(metadata=matching(NAME))
    step: int = field(default=0, metadata=at_least(0))
    micro: int = field(default=0, metadata=at_least(0))  # micro-batch of the step
    part: int = field(default=0, metadata=at_least(0))
    parts: int = field(default=1, metadata=at_least(1, 1 << 12))
    fields: dict[str, Any] = field(default_factory=dict)  # with the first part
    data: bytes = b""  # at most 512 KiB of the numbers
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """Device to device: how the stream between the two halves of a split job stands."""

    TYPE: ClassVar[str] = "peer"
    sender: Sender
    job: str
    stream: str = field(metadata=matching(STREAM))
    what: Literal["open", "credit", "here", "proof", "bye"]
    answers: str = ""  # the stream of the receiver; empty: the sender has heard of none
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
