"""Which part of a file a request asks for (RFC 9110, sections 13.1.5 and 14). No I/O."""

from __future__ import annotations

import re

from hub.web.routes import Refusal

_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def part_of(size: int, asked: str, if_range: str, etag: str) -> tuple[int, int] | None:
    """First byte and one past the last; None for the whole file.

    What is no single range of bytes is ignored, as the RFC allows; so is a range of another state of the file.

    Args:
        size: of the file.
        asked: the header Range.
        if_range: the header If-Range.
        etag: of the file, with its quotes.

    Raises:
        Refusal: 416, the range begins behind the end.

    >>> part_of(100, "bytes=10-", "", '"x"'), part_of(100, "bytes=-5", "", '"x"')
    ((10, 100), (95, 100))
    >>> part_of(100, "bytes=0-9", '"y"', '"x"') is None
    True
    """
    found = _SINGLE.fullmatch(asked.strip())
    if found is None or found.groups() == ("", "") or (if_range and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= size or begin == end:
        raise Refusal(416, f"expected a range within {size} bytes, found {asked}", {"Content-Range": f"bytes */{size}"})
    return begin, end
