"""Hours of the day, as people write them: "22:00-06:00", or several spans with commas between them."""

from __future__ import annotations

import re

_SPAN = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
DAY_MINUTES = 24 * 60

Spans = tuple[tuple[int, int], ...]


def parse_hours(text: str) -> Spans:
    """Spans of the day, in minutes since midnight; one that ends before it begins goes over midnight.

    Raises:
        ValueError: what it should look like.

    >>> parse_hours("22:00-06:00, 12:30-13:00")
    ((1320, 360), (750, 780))
    """
    return tuple(_span(part.strip()) for part in text.split(","))


def within(spans: Spans, minute: int) -> bool:
    """Whether a minute of the day, from 0, lies in one of the spans; their ends do not.

    >>> [within(((1320, 360),), minute) for minute in (1319, 1320, 0, 359, 360)]
    [False, True, True, True, False]
    """
    return any(begin <= minute < end if begin < end else minute >= begin or minute < end for begin, end in spans)


def _span(part: str) -> tuple[int, int]:
    found = _SPAN.fullmatch(part)
    if found is None:
        raise ValueError(f"expected hours like 22:00-06:00, found {part[:40]!r}")
    hours = [int(number) for number in found.groups()]
    begin, end = (60 * hour + minute for hour, minute in (hours[:2], hours[2:]))
    if max(hours[0], hours[2]) > 24 or max(hours[1], hours[3]) > 59 or max(begin, end) > DAY_MINUTES:
        raise ValueError(f"expected hours from 00:00 to 24:00, found {part!r}")
    if begin % DAY_MINUTES == end % DAY_MINUTES and (begin, end) != (0, DAY_MINUTES):
        raise ValueError(f"expected hours that end at another time than they begin, found {part!r}")
    return begin % DAY_MINUTES, end
