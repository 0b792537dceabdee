"""How a worker speaks to its other half: notes cross the pipe to the core in parts, which says how many it takes.

On the pipe, beside requests and answers (edge.request): `note` frames in both directions, each one part of a note; and
from the core `credit` frames, up to which part the worker may speak.
"""

from __future__ import annotations

import time
from collections import deque
from typing import IO, Any

from console.errors import BadData
from edge.request import Requests, read_frame, write_frame
from edge.split.channel import Note, PeerGone
from edge.split.stream import WINDOW
from wire.messages import PART_LIMIT_BYTES

NOTE_LIMIT_BYTES = 256 << 20  # of numbers that cross at a time
AHEAD_LIMIT_BYTES = 256 << 20  # that came while we spoke
ENDED = "the core has ended"


class PipeChannel:
    """The channel of one job.

    Args:
        requests: what the core says.
        answers: where the worker answers.
        job: the id of its request.
    """

    def __init__(self, requests: Requests, answers: IO[bytes], job: str) -> None:
        self._requests, self._answers, self._job = requests, answers, job
        self._said, self._until = 0, WINDOW
        self._came, self._came_bytes = deque[Note](), 0
        self._parts = list[bytes]()
        self._begun: dict[str, Any] = {}
        self._gone = ""

    def send(self, note: Note) -> None:
        """Say something; waits while the other side takes no more.

        Raises:
            PeerGone: nobody hears it.
            BadData: it is too large.
        """
        if len(note.data) > NOTE_LIMIT_BYTES:
            raise BadData(
                f"expected at most {NOTE_LIMIT_BYTES} bytes to cross at a time, found {len(note.data)}; export with a "
                f"smaller micro-batch"
            )
        parts = parts_of(note.data)
        for index, data in enumerate(parts):
            while not self._gone and self._said >= self._until:
                self._take()
            if self._gone:
                raise PeerGone(self._gone)
            head = {"what": note.what, "step": note.step, "micro": note.micro, "part": index, "parts": len(parts)}
            fields = note.fields if index == 0 else {}
            write_frame(self._answers, "note", {"id": self._job, **head, "fields": fields, "data": data})
            self._said += 1

    def receive(self, timeout_s: float) -> Note | None:
        """What the other side says next; None where it says nothing for so long."""
        ends_at = time.monotonic() + timeout_s
        while not self._came:
            left_s = ends_at - time.monotonic()
            if not self._requests.ready(max(0.0, left_s)):
                return None
            self._take()
        note = self._came.popleft()
        self._came_bytes -= len(note.data)
        return note

    def _take(self) -> None:
        """One frame of the core."""
        frame = read_frame(self._requests)
        if frame is None:
            raise PeerGone(ENDED)
        kind, fields = frame
        if kind == "credit":
            self._until = int(fields["until"])
        elif kind == "note":
            self._part(fields)

    def _part(self, fields: dict[str, Any]) -> None:
        what, data = str(fields["what"]), bytes(fields.get("data", b""))
        if what == "gone":
            self._gone = str(fields["fields"].get("reason") or "the other half is gone")
            self._came.append(Note("gone", fields={"reason": self._gone}))
            return
        head = {name: fields[name] for name in ("what", "step", "micro", "parts")}
        if fields["part"] != len(self._parts) or (self._parts and head != self._begun["head"]):
            raise PeerGone(f"expected part {len(self._parts)} of what the other half says, found another; update it")
        if not self._parts:
            self._begun = {"head": head, "fields": dict(fields["fields"])}
        self._parts.append(data)
        self._came_bytes += len(data)
        if self._came_bytes > AHEAD_LIMIT_BYTES:
            raise PeerGone(f"expected the other half to say at most {AHEAD_LIMIT_BYTES} bytes ahead, found more")
        if len(self._parts) == fields["parts"]:
            step, micro, whole = int(head["step"]), int(head["micro"]), b"".join(self._parts)
            note = Note(what, step, micro, self._begun["fields"], whole)  # type: ignore[arg-type]  # others end the job
            self._came.append(note)
            self._parts.clear()


def parts_of(data: bytes, limit: int = PART_LIMIT_BYTES) -> list[bytes]:
    """The bytes in parts of one size but the last; at least one.

    >>> parts_of(b"abcde", 2), parts_of(b"")
    ([b'ab', b'cd', b'e'], [b''])
    """
    return [data[at : at + limit] for at in range(0, len(data), limit)] or [b""]
