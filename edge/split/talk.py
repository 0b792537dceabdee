"""What the board says to the tail during a job, and what it takes from it: one place for the order of it all.

SplitFed (Thapa et al., "SplitFed: when federated learning meets split learning", arXiv 2004.12088, version 1): every
board has a tail of its own adapters, and both halves step once per batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from console.table import size
from devices.split.pace import REMEDY, Pace
from edge.split.channel import Channel, Note, PeerGone, Silent, What, expect
from edge.split.wish import Wish
from wire.activations import Coding, pack_tensors, unpack_tensors
from wire.manifest import Tensor

Array = NDArray[Any]
FEATURES = "features"
MOST_FEATURES = 1 << 20
SECONDS = "seconds"  # of an answer's fields: what the tail computed for it
SILENCE_S = 120.0  # of the other half, between two notes that are due


@dataclass
class Talk:
    """The board's side. `wanted` are the tensors that the tail reads, `shapes` those of gradients, once it is open.

    Attributes:
        channel: to the tail.
        timeout_s: how long a silence may last.
        coding: of what gradients flow through, as asked for at the opening.
        width: features that a head goes on; 0: none come back.
        sent_bytes: numbers that went up.
        taken_bytes: numbers that came down.
        waited_s: in steps, for the tail and for what is between.
        tail_s: what the tail says that it computed of that.
    """

    channel: Channel
    timeout_s: float = SILENCE_S
    coding: Coding = "int8"
    wanted: tuple[str, ...] = ()
    smooth: frozenset[str] = frozenset()
    width: int = 0
    step: int = 0
    sent_bytes: int = 0
    taken_bytes: int = 0
    waited_s: float = 0.0
    tail_s: float = 0.0
    _micro: int = 0
    _said_s: float = 0.0
    _last_bytes: int = 0  # of what was said last

    def open(self, wish: Wish) -> None:
        """Ask whether the tail takes part.

        Raises:
            PeerGone: it does not, or says nothing.
        """
        self.coding = wish.coding
        self._say(Note("open", fields=wish.fields()))
        opened = expect(self.channel, ("opened",), self.timeout_s)
        wanted, smooth = opened.fields.get("wanted"), opened.fields.get("smooth")
        if not _names(wanted) or not _names(smooth):
            raise PeerGone("expected the names of what the tail reads, found none; update its agent")
        self.wanted, self.smooth = tuple(wanted or ()), frozenset(smooth or ())
        width = opened.fields.get("width")
        self.width = width if isinstance(width, int) and 0 < width <= MOST_FEATURES else 0
        if not wish.labels and not self.width:
            raise PeerGone("expected a tail with a way back from features, found none; let labels go along")

    def forth(self, values: Mapping[str, Array], bucket: str) -> int:
        """Send a micro-batch; its number in this step."""
        data = pack_tensors({name: values[name] for name in self.wanted}, dict.fromkeys(self.smooth, self.coding))
        self._say(Note("forth", self.step, self._micro, {"bucket": bucket}, data))
        self.sent_bytes += len(data)
        self._micro += 1
        return self._micro - 1

    def back(self, micro: int, expected: Sequence[Tensor]) -> tuple[float, dict[str, Array]]:
        """The summed loss of a micro-batch, and the gradients of the border.

        Raises:
            PeerGone: the tail says something else, or nothing.
            BadData: the numbers are not those of the border.
        """
        note = self._hear("back")
        if (note.step, note.micro) != (self.step, micro):
            raise PeerGone(
                f"expected the gradient of step {self.step}, micro-batch {micro}, found {note.step}, {note.micro}; "
                "the other half belongs to another turn"
            )
        loss = note.fields.get("loss")
        if not isinstance(loss, (int, float)):
            raise PeerGone(f"expected the loss of step {self.step}, found none; update the agent of the tail")
        self.taken_bytes += len(note.data)
        return float(loss), unpack_tensors(note.data, expected) if note.data else {}

    def features(self, micro: int) -> Array:
        """What the head goes on of a micro-batch, float32 [batch, features]; where labels stay here.

        Raises:
            PeerGone: the tail says something else, or nothing.
            BadData: the numbers are no features.
        """
        note = self._hear("features")
        rows = note.fields.get("rows")
        if (note.step, note.micro) != (self.step, micro) or not isinstance(rows, int) or rows < 1:
            raise PeerGone(f"expected the features of step {self.step}, micro-batch {micro}, found others; update both")
        self.taken_bytes += len(note.data)
        return unpack_tensors(note.data, [Tensor(FEATURES, "float32", (rows, self.width))])[FEATURES]

    def turned(self, micro: int, gradient: Array, loss: float) -> None:
        """The gradient of a micro-batch's features, which the tail goes on with."""
        data = pack_tensors({FEATURES: gradient}, {FEATURES: self.coding})
        self.sent_bytes += len(data)
        self._say(Note("turned", self.step, micro, {"loss": loss}, data))

    def stepped(self, rows: int, share: float) -> None:
        """The step was done here: the tail does it, too, with the mean over so many rows at a share of its rate."""
        self._say(Note("step", self.step, fields={"rows": rows, "share": share}))
        self._next()

    def undone(self) -> None:
        """The step was not done, and the one before is taken back."""
        self._say(Note("undo", self.step))
        self._next()

    def end(self) -> None:
        """All steps were done; the tail makes its update.

        Raises:
            PeerGone: it does not.
        """
        self._say(Note("end", self.step))
        expect(self.channel, ("ended",), self.timeout_s)

    def busy(self) -> None:
        """We are there, and compute; said where the tail heard nothing for a quarter of what it waits."""
        if time.monotonic() - self._said_s > self.timeout_s / 4:
            self._say(Note("busy", self.step))

    def pace(self, seconds: float) -> Pace:
        """What a step took, of so many seconds in all steps, and what of it went by for the link."""
        steps = max(1, self.step)
        return Pace(seconds / steps, max(0.0, self.waited_s - self.tail_s) / steps)

    def _say(self, note: Note) -> None:
        """Say something; this waits where the link takes no more."""
        began_s, self._last_bytes = time.monotonic(), len(note.data) or self._last_bytes
        self.channel.send(note)
        self._said_s = time.monotonic()
        self.waited_s += self._said_s - began_s

    def _hear(self, what: What) -> Note:
        """What answers a micro-batch.

        Raises:
            PeerGone: the tail says something else, or nothing.
        """
        began_s = time.monotonic()
        try:
            note = expect(self.channel, (what,), self.timeout_s)
        except Silent as silent:
            said = f"if the tail is well, the link is too slow for {size(self._last_bytes)} at a time: {REMEDY}"
            raise PeerGone(f"{silent}; {said}") from silent
        self.waited_s += time.monotonic() - began_s
        computed = note.fields.get(SECONDS)
        if isinstance(computed, float) and math.isfinite(computed) and computed > 0:
            self.tail_s += computed
        return note

    def _next(self) -> None:
        self.step, self._micro = self.step + 1, 0


def _names(found: Any) -> bool:
    return isinstance(found, (list, tuple)) and all(isinstance(name, str) for name in found)
