"""What the two halves of a split job say to each other, and how a worker says it: in order, once, whatever carries it.

The core signs, sends again and puts in order (`edge.split.carry`); here a note is what a worker makes and takes.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from console.errors import BadData

What = Literal[
    "open", "opened", "refused", "forth", "features", "turned", "back", "busy", "step", "undo", "end", "ended", "gone"
]


@dataclass(frozen=True)
class Note:
    """One thing that is said.

    open, opened, refused: whether the two halves fit. forth, back: numbers at a border, of a micro-batch of a step.
    features, turned: where labels stay on the board, what its head goes on, and the gradient of that.
    busy: the board computes for long, and is there. step, undo: the board has done the step, or it was nothing and the
    one before is taken back; so does the tail. end, ended: the last step was done, and the tail has made its update of
    it. gone: nobody hears us any more; the core says this, with the `reason` among the fields.

    Attributes:
        what: see above.
        step: counted from 0.
        micro: the micro-batch of the step, counted from 0.
        fields: what goes along, small.
        data: numbers (`wire.activations`).
    """

    what: What
    step: int = 0
    micro: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""


class PeerGone(BadData):
    """The other half is not heard any more, or does not want us."""


class Silent(PeerGone):
    """It says nothing for too long."""


class Channel(Protocol):
    """A way to one other half."""

    def send(self, note: Note) -> None:
        """Say something; waits while the other side takes no more.

        Raises:
            PeerGone: nobody hears it.
        """

    def receive(self, timeout_s: float) -> Note | None:
        """What the other side says next; None where it says nothing for so long."""


def expect(channel: Channel, what: tuple[What, ...], timeout_s: float) -> Note:
    """The next note, which must be one of some.

    Raises:
        Silent: nothing came in time.
        PeerGone: the other side refused, or it said something else.
    """
    note = channel.receive(timeout_s)
    if note is None:
        raise Silent(f"expected {' or '.join(what)} of the other half within {timeout_s:.0f} s, found nothing")
    if note.what in ("refused", "gone"):
        raise PeerGone(str(note.fields.get("reason") or "the other half is gone"))
    if note.what not in what:
        raise PeerGone(f"expected {' or '.join(what)} of the other half, found {note.what}; its agent is another one?")
    return note


class Ends:
    """Two channels in one process that lead to each other."""

    def __init__(self) -> None:
        there, back = queue.Queue[Note](), queue.Queue[Note]()
        self.board, self.tail = _End(there, back), _End(back, there)


class _End:
    def __init__(self, out: queue.Queue[Note], into: queue.Queue[Note]) -> None:
        self._out, self._into = out, into

    def send(self, note: Note) -> None:
        """Put it where the other end takes from."""
        self._out.put(note)

    def receive(self, timeout_s: float) -> Note | None:
        """Take what the other end has put."""
        try:
            return self._into.get(timeout=timeout_s)
        except queue.Empty:
            return None
