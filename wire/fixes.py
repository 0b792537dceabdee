"""What an agent says of a fix that it computed: the metadata `fix` of an update of kind `edit`, as JSON.

Counts only: neither the input nor any row of the calibration data is in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from console.errors import BadData
from wire.json_text import parse_json
from wire.record import at_least, plain, read_record

KEY = "fix"  # of the metadata
SCHEMA = 1


@dataclass(frozen=True)
class AtRank:
    """What boards of a rank answer with the edit on top, as the agent measured it on the bytes that it sends."""

    rank: int = field(metadata=at_least(0))
    before: str  # the label that the input had
    right: bool  # whether it has the one that was asked for
    lead: float  # of its logit over the next one; negative while it is wrong
    paraphrases_right: int = field(metadata=at_least(0))
    right_before: int = field(metadata=at_least(0))  # calibration rows
    lost: int = field(metadata=at_least(0))  # of these, those that are wrong now
    gained: int = field(metadata=at_least(0))  # those that were wrong and are right now
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A fix at every rank that boards serve at."""

    schema: int
    job: str
    rows: int = field(metadata=at_least(0))  # of the calibration data, without those that are the input itself
    paraphrases: int = field(metadata=at_least(0))
    fitted: bool  # the edit was fitted to the paraphrases too, since without them it did not reach them
    at: tuple[AtRank, ...]
    extra: dict[str, Any] = field(default_factory=dict)


def text_of(report: Report) -> str:
    """The metadata's text."""
    return json.dumps(plain(report), separators=(",", ":"))


def read_report(text: str | None, where: str) -> Report:
    """The same, read.

    Raises:
        BadData: it is something else, or its counts contradict each other.
    """
    try:
        found = read_record(Report, parse_json(text or ""), where)
    except ValueError as error:
        raise BadData(f"expected a report of a fix in {where}, found something else ({error})") from error
    if not found.at:
        raise BadData(f"expected what a fix does at one rank at least in {where}, found none")
    for one in found.at:
        wrong = found.rows - one.right_before
        if one.lost > one.right_before or one.gained > wrong or one.paraphrases_right > found.paraphrases:
            raise BadData(f"expected no count above its total at rank {one.rank} in {where}, found one")
    return found
