"""Text out of tokens as they come: a piece is shown when its characters are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what a tokenizer writes for bytes that are no whole character yet


class Pieces:
    r"""Decodes tokens one after the other; all pieces together are the text.

    A token may end in the middle of a character, and whether a space stands before it depends on what is before it.
    So a window of tokens is decoded again with each new one, and what is new at its end is the piece (as in Hugging
    Face's text-generation-inference, `decode_token`).

    >>> table = {1: b"caf", 2: b"\xc3", 3: b"\xa9!"}
    >>> pieces = Pieces(lambda ids: b"".join(table[i] for i in ids).decode(errors="replace"))
    >>> [pieces.add(1), pieces.add(2), pieces.add(3), pieces.rest()]
    ['caf', '', 'é!', '']

    Args:
        decode: token ids to text.
        before: tokens before the first piece (the prompt).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        self._decode, self._ids = decode, list(before)
        self._start, self._shown = max(0, len(self._ids) - 5), len(self._ids)

    def add(self, token: int) -> str:
        """The new piece; empty while a character is not whole."""
        self._ids.append(token)
        return self._piece(finished=False)

    def rest(self) -> str:
        """What has not been shown at the end."""
        return self._piece(finished=True)

    def _piece(self, *, finished: bool) -> str:
        before = self._decode(self._ids[self._start : self._shown])
        now = self._decode(self._ids[self._start :])
        if len(now) <= len(before) or (now.endswith(UNFINISHED) and not finished):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return now[len(before) :]
