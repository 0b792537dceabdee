"""What a job says of its other half: who that is, by which key it is known, and where it may be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from console.errors import BadData, SignatureError
from wire.keys import PublicKey, parse_public_key
from wire.record import NAME, matching, read_record

SETTING, TAIL = "split", "tail"
KINDS = ("train", "statistics", TAIL)  # of an evaluation, `split` says which rows
MODE, FEATURES = "mode", "features"  # of a statistics job: features go back to the board, and the tail learns nothing
SUFFIX = ".tail"  # of a tail's job: the board's has the name before it


@dataclass(frozen=True)
class _Board:
    tail: str = field(metadata=matching(NAME))
    key: str
    address: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tail:
    board: str = field(metadata=matching(NAME))
    key: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Other:
    """The other half of a job.

    Attributes:
        name: of its device.
        key: that signs what it says.
        job: the name under which both speak.
        address: HOST:PORT where it can be reached without the broker; empty: by the broker alone.
        tail: whether it is the tail; else it is the board.
    """

    name: str
    key: PublicKey
    job: str
    address: str = ""
    tail: bool = False


def name_of_other(settings: Mapping[str, Any]) -> str:
    """The device that has the other half; empty where the job is whole.

    >>> name_of_other({"split": {"tail": "coop"}}), name_of_other({"split": "holdout"})
    ('coop', '')
    """
    found = settings.get(SETTING)
    return str(found.get(TAIL) or found.get("board") or "") if isinstance(found, Mapping) else ""


def only_helps(kind: str, settings: Mapping[str, Any]) -> bool:
    """Whether a job is that of a tail which learns nothing and brings no update.

    >>> only_helps("tail", {"split": {"mode": "features"}}), only_helps("tail", {"split": {"mode": "steps"}})
    (True, False)
    """
    found = settings.get(SETTING)
    return kind == TAIL and isinstance(found, Mapping) and found.get(MODE) == FEATURES


def other_of(job: str, kind: str, settings: Mapping[str, Any]) -> Other | None:
    """The other half of a job; None of a job that is not split.

    Raises:
        BadData: the hub names none, or not as it should.
    """
    if kind not in KINDS:
        return None
    found = settings.get(SETTING)
    if not found:
        if kind == TAIL:
            raise BadData(f"expected job {job} to name its board, found nothing; update the hub")
        return None
    where = f"the other half of job {job}"
    try:
        if kind == TAIL:
            board = read_record(_Tail, found, where)
            return Other(board.board, parse_public_key(board.key, "device", where), job.removesuffix(SUFFIX))
        tail = read_record(_Board, found, where)
        return Other(tail.tail, parse_public_key(tail.key, "device", where), job, tail.address, tail=True)
    except SignatureError as error:
        raise BadData(str(error)) from error
