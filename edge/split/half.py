"""What a core knows of one half of a split job that its worker has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.split.stream import WINDOW, Stream
from edge.split.told import Other
from wire.envelope import Trust

if TYPE_CHECKING:
    from edge.split.direct import Link


@dataclass(eq=False)
class Half:
    """One job's.

    Attributes:
        id: of the worker's request.
        other: the other half, as the hub named it.
        trust: in its key alone.
        stream: what was said and came.
        until: how many parts the worker may say, as it was told.
        told_gone: whether the worker was told that nobody hears it.
        over_at: when the worker was done with it; None: it is not.
        link: the direct connection, where one stands.
        dialing: whether one is being made, or stands and is ours.
        dial_at_s: when to try next.
        denied_at: when the broker first denied what we said to the other half.
    """

    id: str
    other: Other
    trust: Trust
    stream: Stream
    until: int = WINDOW
    told_gone: bool = False
    over_at: float | None = None
    link: Link | None = None
    dialing: bool = False
    dial_at_s: float = -1e9
    denied_at: float | None = None

    def record(self) -> dict[str, Any]:
        """For status.json."""
        way = "broker" if self.link is None else "direct"
        return {"job": self.id, "other": self.other.name, "met": bool(self.stream.peer), "way": way}
