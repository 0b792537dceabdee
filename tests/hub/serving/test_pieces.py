"""What a fleet fetches at once is read and encoded once."""

from __future__ import annotations

from hub.serving.pieces import Pieces
from wire.chunks import Assembly
from wire.files import digest
from wire.messages import CHUNK_BYTES, Chunk, decode

DATA = {name: bytes([index]) * (CHUNK_BYTES + 10) for index, name in enumerate("abc")}


def test_everybody_gets_the_same_bytes_of_one_reading() -> None:
    """The second board's messages are the first one's, they carry the blob, and its file is read once."""
    pieces, read = Pieces(), list[str]()

    def reading() -> bytes:
        read.append("a")
        return DATA["a"]

    first, second = pieces.of("a", reading), pieces.of("a", reading)

    assert [id(one) for one in first] == [id(one) for one in second]
    assert read == ["a"]
    whole = Assembly(digest(DATA["a"]), len(DATA["a"]))
    assert all(whole.add(decode(piece, Chunk)) for piece in first)
    assert whole.join() == DATA["a"]


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    """The third blob takes the place of the one that nobody asked for of late; a huge one that of none."""
    pieces, read = Pieces(limit_bytes=3 * CHUNK_BYTES), list[str]()

    for name in "abacbaz":
        pieces.of(name, lambda name=name: read.append(name) or DATA.get(name, bytes(9 * CHUNK_BYTES)))  # type: ignore[misc, func-returns-value]  # bound on purpose; notes who was read

    assert "".join(read) == "abcbaz"
    pieces.of("a", lambda: read.append("again") or b"")  # type: ignore[func-returns-value]  # notes it
    assert read[-1] == "z"
