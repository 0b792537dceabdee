"""What a tail does with the notes of one board, from its wish to the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from console.errors import EdgequiltError
from edge.split.channel import Channel, Note, PeerGone
from edge.split.tail import refused
from edge.split.talk import SECONDS, SILENCE_S
from edge.split.wish import Wish, read_wish


class Serves(Protocol):
    """One board's job at its tail."""

    def opened(self) -> Note:
        """What the board is told first."""

    def take(self, note: Note) -> Note | None:
        """One note of the board; what to say to it, if anything."""


One = TypeVar("One", bound=Serves)


def serve(
    channel: Channel,
    make: Callable[[Wish], One],
    keep: Callable[[One], None],
    silence_s: float = SILENCE_S,
) -> One:
    """Serve one board until it ends.

    Args:
        channel: to the board.
        make: a session for what it asks.
        keep: makes the update of a session that has ended, before the board is told so.
        silence_s: how long it may be silent.

    Raises:
        EdgequiltError: it is not served, was silent, or said what does not belong here; it was told why.
    """
    try:
        session = make(read_wish(_next(channel, silence_s, "open").fields))
        channel.send(session.opened())
        while (note := _next(channel, silence_s)).what != "end":
            began_s = time.monotonic()
            answer = session.take(note)
            if answer is not None:
                fields = {**answer.fields, SECONDS: time.monotonic() - began_s}
                channel.send(replace(answer, fields=fields))
        keep(session)
        channel.send(Note("ended", note.step))
    except PeerGone:
        raise
    except EdgequiltError as error:
        channel.send(refused(error))
        raise
    return session


def _next(channel: Channel, silence_s: float, what: str = "") -> Note:
    note = channel.receive(silence_s)
    while note is not None and note.what == "busy":
        note = channel.receive(silence_s)
    if note is None:
        raise PeerGone(f"expected the board to go on within {silence_s:.0f} s, found it silent")
    if note.what == "gone":
        raise PeerGone(str(note.fields.get("reason") or "the board is gone"))
    if what and note.what != what:
        raise PeerGone(f"expected the board to {what}, found {note.what}")
    return note
