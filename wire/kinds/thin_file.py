"""A thin update in a file: the tensors of its codec, and what the metadata says of them.

The metadata key `thin` is JSON: `codec`, `rank`, `factors` (both, a, b, none), `biases` (their slots, in the order in
which they are coded) and `head` (the rank of a head; -1: none). The tensors are `thin/...`, all one-dimensional; sizes
are those of what was sent, so a file cannot choose them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.json_text import parse_json
from wire.record import at_least, read_record
from wire.thin.table import codec_of

KEY, PREFIX = "thin", "thin/"


@dataclass(frozen=True)
class Told:
    """What the metadata says."""

    codec: str
    rank: int = field(metadata=at_least(0, 4096))
    factors: Literal["both", "a", "b", "none"] = "both"
    biases: tuple[str, ...] = ()
    head: int = field(default=-1, metadata=at_least(-1, 4096))


@dataclass(frozen=True)
class Thin:
    """Differences, coded."""

    told: Told
    tensors: Mapping[str, NDArray[Any]]


def text_of(thin: Thin) -> str:
    """What the metadata says, JSON.

    >>> text_of(Thin(Told("int8", 4), {}))
    '{"biases":[],"codec":"int8","factors":"both","head":-1,"rank":4}'
    """
    return json.dumps(asdict(thin.told), separators=(",", ":"), sort_keys=True)


def read(tensors: Mapping[str, NDArray[Any]], text: str | None, known: set[str], problems: list[str]) -> Thin | None:
    """The differences of a file; names that are read are added to `known`, and what is wrong to `problems`."""
    if text is None:
        return None
    found = {name for name in tensors if name.startswith(PREFIX)}
    known |= found
    try:
        told = read_record(Told, parse_json(text), "its metadata of a thin update")
        wanted = codec_of(told.codec).tensors
    except (BadData, ValueError) as error:
        problems.append(str(error))
        return None
    if found != set(wanted):
        problems.append(f"a thin update of {told.codec} has {sorted(found)} instead of {sorted(wanted)}")
        return None
    wrong = [name for name, kind in wanted.items() if tensors[name].dtype != kind or tensors[name].ndim != 1]
    problems += [f"{name} is not {wanted[name]} [n]" for name in wrong]
    return None if wrong else Thin(told, {name: np.ascontiguousarray(tensors[name]) for name in wanted})
