"""Factors of scales in a file: tensors, and what the metadata says of the weights that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.json_text import parse_json
from wire.kinds.scales import Belongs, Replay, ScaleFactors
from wire.record import at_least, matching, read_record

KEY = "scales"  # of the metadata
COUNTER, SCALAR = "scales/counter", "scales/scalar"


def name(weight: str) -> str:
    """Tensor name of a weight's factors.

    >>> name("layer.0.query")
    'layer.0.query/scales/factor'
    """
    return f"{weight}/scales/factor"


@dataclass(frozen=True)
class _Told:
    """What the metadata of a file says of factors."""

    weights: dict[str, Belongs]
    key: str = field(default="", metadata=matching(r"|[0-9a-f]{32}"))
    board: int = field(default=0, metadata=at_least(0))
    per_step: int = field(default=1, metadata=at_least(1))


def tensors_of(scales: ScaleFactors) -> dict[str, NDArray[Any]]:
    """Tensors of a file by name."""
    if scales.replay is None:
        return {name(w): np.ascontiguousarray(f, np.float32) for w, f in scales.factors.items()}
    pairs = scales.replay.pairs
    return {COUNTER: np.array([c for c, _ in pairs], np.uint64), SCALAR: np.array([s for _, s in pairs], np.float32)}


def text_of(scales: ScaleFactors) -> str:
    """What the metadata of a file says of factors, JSON."""
    weights = {weight: asdict(one) for weight, one in sorted(scales.belongs.items())}
    how = {} if scales.replay is None else {"key": f"{scales.replay.key:032x}", "board": scales.replay.board}
    how |= {} if scales.replay is None else {"per_step": scales.replay.per_step}
    return json.dumps({"weights": weights, **how}, separators=(",", ":"), sort_keys=True)


def read(
    tensors: Mapping[str, NDArray[Any]], text: str | None, known: set[str], problems: list[str]
) -> ScaleFactors | None:
    """The factors of a file; names that are read are added to `known`, and what is wrong to `problems`."""
    found = {n for n in tensors if n in (COUNTER, SCALAR) or n.endswith("/scales/factor")}
    if text is None:
        problems += [f"{n} comes without a word of the weight that it belongs to" for n in sorted(found)]
        return None
    try:
        told = read_record(_Told, parse_json(text), "its metadata of scales")
    except (BadData, ValueError) as error:
        problems.append(str(error))
        return None
    known |= found
    problems += [f"the scales of {w} have no shape" for w, one in told.weights.items() if min(one.shape, default=0) < 1]
    if told.key:
        return _read_replay(tensors, told, problems)
    arrays = {weight: tensors[name(weight)] for weight in told.weights if name(weight) in tensors}
    problems += [f"the scales of {weight} are missing" for weight in told.weights if weight not in arrays]
    for weight, array in arrays.items():
        if array.dtype != np.float32 or array.shape != told.weights[weight].shape or not (array > 0).all():
            problems.append(f"{name(weight)} is not float32 {list(told.weights[weight].shape)} above 0")
    problems += [f"{n} is of no weight that its metadata names" for n in sorted(found - {name(w) for w in arrays})]
    return ScaleFactors(told.weights, arrays)


def _read_replay(tensors: Mapping[str, NDArray[Any]], told: _Told, problems: list[str]) -> ScaleFactors | None:
    counters, scalars = tensors.get(COUNTER), tensors.get(SCALAR)
    if counters is None or scalars is None or counters.ndim != 1 or counters.shape != scalars.shape:
        problems.append(f"a replay of scales needs {COUNTER} [n] and {SCALAR} [n]")
        return None
    if counters.dtype != np.uint64 or scalars.dtype != np.float32:
        problems.append(f"a replay of scales needs {COUNTER} uint64 and {SCALAR} float32")
        return None
    pairs = tuple((int(c), float(s)) for c, s in zip(counters, scalars, strict=True))
    return ScaleFactors(told.weights, None, Replay(int(told.key, 16), told.board, told.per_step, pairs))
