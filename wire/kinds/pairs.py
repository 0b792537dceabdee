"""Pairs of a counter and a scalar in a file: what a board sends of forward gradients (wire.forward_gradients).

`directions/counter` uint64 [n] and `directions/scalar` float32 [n], in the order of the steps; the metadata key
`directions` is JSON: `rank`, of the prefix that the board trained, and `per_step`. Key, board and optimizer are those
of the job: a file cannot choose them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.directions import Pairs
from wire.json_text import parse_json
from wire.record import at_least, read_record

KEY, COUNTER, SCALAR = "directions", "directions/counter", "directions/scalar"


@dataclass(frozen=True)
class Told:
    """What the metadata says."""

    rank: int = field(metadata=at_least(1, 4096))
    per_step: int = field(metadata=at_least(1, 65_536))


@dataclass(frozen=True)
class Directions:
    """Pairs in the order of the steps."""

    told: Told
    pairs: tuple[tuple[int, float], ...]

    def steps(self) -> list[Pairs]:
        """Pairs by step.

        >>> Directions(Told(1, 2), ((0, 0.5), (1, 0.25), (2, 1.0), (3, 2.0))).steps()
        [[(0, 0.5), (1, 0.25)], [(2, 1.0), (3, 2.0)]]
        """
        size = self.told.per_step
        return [list(self.pairs[at : at + size]) for at in range(0, len(self.pairs), size)]


def tensors_of(found: Directions) -> dict[str, NDArray[Any]]:
    """Tensors of a file by name."""
    return {
        COUNTER: np.array([c for c, _ in found.pairs], np.uint64),
        SCALAR: np.array([d for _, d in found.pairs], np.float32),
    }


def text_of(found: Directions) -> str:
    """What the metadata says, JSON.

    >>> text_of(Directions(Told(4, 8), ()))
    '{"per_step":8,"rank":4}'
    """
    return json.dumps(asdict(found.told), separators=(",", ":"), sort_keys=True)


def read(
    tensors: Mapping[str, NDArray[Any]], text: str | None, known: set[str], problems: list[str]
) -> Directions | None:
    """The pairs of a file; names that are read are added to `known`, and what is wrong to `problems`."""
    counters, scalars = tensors.get(COUNTER), tensors.get(SCALAR)
    if text is None and counters is None and scalars is None:
        return None
    known |= {COUNTER, SCALAR} & set(tensors)
    try:
        told = read_record(Told, parse_json(text or "null"), "its metadata of directions")
    except (BadData, ValueError) as error:
        problems.append(str(error))
        return None
    if counters is None or scalars is None or counters.ndim != 1 or counters.shape != scalars.shape:
        problems.append(f"directions need {COUNTER} [n] and {SCALAR} [n]")
    elif counters.dtype != np.uint64 or scalars.dtype != np.float32:
        problems.append(f"directions need {COUNTER} uint64 and {SCALAR} float32")
    elif len(counters) % told.per_step or not len(counters):
        problems.append(f"directions are {len(counters)}, not so many times {told.per_step}")
    else:
        return Directions(told, tuple((int(c), float(d)) for c, d in zip(counters, scalars, strict=True)))
    return None
