"""The adapter file: what learned things travel in (docs/adapter.md). safetensors with our metadata; never pickle.

One door in each direction: `to_bytes` and `read_adapter`. A file may hold LoRA factors, biases, factors of scales, a
head, edits of a head, head statistics, pairs along directions, and a thin update, in any combination.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from console.errors import BadData, StorageError, join
from wire.json_text import parse_json
from wire.kinds import bias, edit, head, lora, pairs, scale_file, thin_file
from wire.kinds.edit import HeadEdit
from wire.kinds.head import Head, Statistics
from wire.kinds.lora import Lora
from wire.kinds.pairs import Directions
from wire.kinds.scales import ScaleFactors
from wire.kinds.thin_file import Thin

FORMAT, SCHEMA = "edgequilt-adapter", "1"
HEADER_LIMIT_BYTES = 4 << 20
FEATURES_LIMIT = 8192  # of statistics: their matrix has the square of it, however small its numbers are in the file


@dataclass(frozen=True)
class Adapter:
    """What one file holds. `model` and `version` name what it belongs to; `version` is the digest it started from."""

    model: str
    version: str = ""
    lora: dict[str, Lora] = field(default_factory=dict)
    bias: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    heads: dict[int, Head] = field(default_factory=dict)  # by the rank whose features they were solved for
    statistics: dict[int, Statistics] = field(default_factory=dict)  # by rank
    metadata: dict[str, str] = field(default_factory=dict)
    scales: ScaleFactors | None = None
    directions: Directions | None = None
    thin: Thin | None = None
    edits: dict[int, HeadEdit] = field(default_factory=dict)  # of heads, by rank

    @property
    def rank(self) -> int:
        """The highest rank of its LoRA factors; 0 without any."""
        return max((factors.rank for factors in self.lora.values()), default=0)

    @property
    def head(self) -> Head | None:
        """The head that belongs to its rank; None while no class is known."""
        return head.pick(self.heads, self.rank)


def to_bytes(adapter: Adapter) -> bytes:
    """The bytes of an adapter file; the same adapter gives the same bytes."""
    tensors: dict[str, NDArray[Any]] = {}
    for slot, factors in adapter.lora.items():
        a, b, scale = lora.names(slot)
        tensors[a], tensors[b] = _f32(factors.a), _f32(factors.b)
        tensors[scale] = np.asarray(factors.scale, np.float32)
    for slot, delta in adapter.bias.items():
        tensors[bias.name(slot)] = _f32(delta)
    for rank, trained in adapter.heads.items():
        weight, offset = head.names("head", rank)
        tensors[weight], tensors[offset] = _f32(trained.weight), _f32(trained.bias)
    for rank, s in adapter.statistics.items():
        count, total, gram = head.names("statistics", rank)
        tensors[count], tensors[total] = np.ascontiguousarray(s.count), np.ascontiguousarray(s.sum)
        tensors[gram] = np.ascontiguousarray(head.triangle(s.gram))
    tensors |= edit.tensors_of(adapter.edits)
    metadata = {**adapter.metadata, "format": FORMAT, "schema": SCHEMA, "model": adapter.model}
    metadata["version"] = adapter.version
    if adapter.scales is not None:
        tensors |= scale_file.tensors_of(adapter.scales)
        metadata[scale_file.KEY] = scale_file.text_of(adapter.scales)
    if adapter.directions is not None:
        tensors |= pairs.tensors_of(adapter.directions)
        metadata[pairs.KEY] = pairs.text_of(adapter.directions)
    if adapter.thin is not None:
        tensors |= adapter.thin.tensors
        metadata[thin_file.KEY] = thin_file.text_of(adapter.thin)
    return _ordered(tensors, metadata)


def read_adapter(data: bytes, where: str) -> Adapter:
    """Read an adapter file.

    Raises:
        BadData: it is not one, or a tensor has another shape or type than its kind says, or is not finite.
    """
    metadata = _metadata(data, where)
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"expected an adapter file in {where}, found something else ({error}); send it again") from error
    problems = [
        f"{name} is not finite"
        for name, value in tensors.items()
        if value.dtype.kind == "f" and not np.isfinite(value).all()
    ]
    known: set[str] = set()
    factors = _read_lora(tensors, known, problems)
    biases = _read_bias(tensors, known, problems)
    heads, statistics = _read_heads(tensors, known, problems), _read_statistics(tensors, known, problems)
    edits = edit.read(tensors, known, problems)
    moved = scale_file.read(tensors, metadata.get(scale_file.KEY), known, problems)
    steps = pairs.read(tensors, metadata.get(pairs.KEY), known, problems)
    thin = thin_file.read(tensors, metadata.get(thin_file.KEY), known, problems)
    problems += [f"{name} belongs to no kind" for name in tensors if name not in known]
    if problems:
        raise BadData(f"{where} is not an adapter of schema {SCHEMA}: {join(problems)}")
    ours = ("format", "schema", "model", "version", scale_file.KEY, pairs.KEY, thin_file.KEY)
    own = {k: v for k, v in metadata.items() if k not in ours}
    whose = (metadata["model"], metadata.get("version", ""))
    return Adapter(*whose, factors, biases, heads, statistics, own, moved, steps, thin, edits)


def read_slots(path: Path, slots: Collection[str]) -> dict[str, Lora]:
    """The factors of those of some slots that a file has, without the rest of it: of a file that is known to be right.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            held = set(file.keys())
            wanted = [slot for slot in sorted(slots) if lora.names(slot)[0] in held]
            parts = {slot: [file.get_tensor(name) for name in lora.names(slot)] for slot in wanted}
    except (OSError, safetensors.SafetensorError) as error:
        raise StorageError(
            f"expected an adapter file at {path}, found none that can be read ({error}); restore it"
        ) from error
    return {slot: Lora(_f32(a), _f32(b), float(scale)) for slot, (a, b, scale) in parts.items()}


def read_told(path: Path) -> dict[str, str]:
    """The metadata of a file without the rest of it: of a file that is known to be right.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise StorageError(
            f"expected an adapter file at {path}, found none that can be read ({error}); restore it"
        ) from error


def _f32(value: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(value, dtype=np.float32)


def _ordered(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """safetensors, with the metadata in one order: the library writes its header from an unordered map."""
    raw = safetensors.numpy.save(tensors, metadata=None)
    size = int.from_bytes(raw[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(raw[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def _metadata(data: bytes, where: str) -> dict[str, str]:
    try:
        size = int.from_bytes(data[:8], "little")
        if not 0 < size <= min(HEADER_LIMIT_BYTES, len(data) - 8):
            raise ValueError("header length")
        metadata = parse_json(data[8 : 8 + size])["__metadata__"]
        if metadata["format"] != FORMAT or metadata["schema"] != SCHEMA or not isinstance(metadata["model"], str):
            raise ValueError(f"format {metadata.get('format')} schema {metadata.get('schema')}")
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(
            f"expected an {FORMAT} file of schema {SCHEMA} in {where}, found something else ({error}); send it again"
        ) from error
    return {str(k): str(v) for k, v in metadata.items()}


def _read_lora(tensors: dict[str, NDArray[Any]], known: set[str], problems: list[str]) -> dict[str, Lora]:
    factors = {}
    for slot in sorted(n.removesuffix("/lora/A") for n in tensors if n.endswith("/lora/A")):
        a, b, scale = (tensors.get(n) for n in lora.names(slot))
        if (
            a is None
            or b is None
            or scale is None
            or a.ndim != 2
            or b.ndim != 2
            or scale.shape != ()
            or a.shape[1] != b.shape[0]
        ):
            problems.append(f"{slot} needs A [in, r], B [r, out] and scale []")
            continue
        known.update(lora.names(slot))
        factors[slot] = Lora(_f32(a), _f32(b), float(scale))
    return factors


def _read_bias(
    tensors: dict[str, NDArray[Any]], known: set[str], problems: list[str]
) -> dict[str, NDArray[np.float32]]:
    biases = {}
    for slot in sorted(n.removesuffix("/bias/delta") for n in tensors if n.endswith("/bias/delta")):
        known.add(bias.name(slot))
        delta = tensors[bias.name(slot)]
        if delta.ndim != 1 or delta.dtype.kind != "f":
            problems.append(f"{slot} needs a bias delta [out]")
            continue
        biases[slot] = _f32(delta)
    return biases


def _ranks(tensors: dict[str, NDArray[Any]], kind: str) -> list[int]:
    """The ranks of which there is at least one part."""
    parts = "|".join(head.HEAD_PARTS if kind == "head" else head.STATISTICS_PARTS)
    found = (re.fullmatch(rf"{kind}/(0|[1-9][0-9]{{0,4}})/(?:{parts})", name) for name in tensors)
    return sorted({int(match.group(1)) for match in found if match})


def _read_heads(tensors: dict[str, NDArray[Any]], known: set[str], problems: list[str]) -> dict[int, Head]:
    heads = {}
    for rank in _ranks(tensors, "head"):
        names = head.names("head", rank)
        known.update(names)
        weight, offset = (tensors.get(name) for name in names)
        if weight is None or offset is None or weight.ndim != 2 or offset.shape != (weight.shape[1],):
            problems.append(f"the head of rank {rank} needs weight [features, classes] and bias [classes]")
            continue
        heads[rank] = Head(_f32(weight), _f32(offset))
    return heads


def _read_statistics(tensors: dict[str, NDArray[Any]], known: set[str], problems: list[str]) -> dict[int, Statistics]:
    statistics = {}
    for rank in _ranks(tensors, "statistics"):
        names = head.names("statistics", rank)
        known.update(names)
        present = [tensors[name] for name in names if name in tensors]
        if len(present) < len(names) or not _statistics_agree(*present):
            needs = "count [classes] >= 0, sum [classes, D] and gram [D (D + 1) / 2]"
            problems.append(f"the statistics of rank {rank} need {needs}")
            continue
        count, total, upper = (part.astype(np.float64) for part in present)
        statistics[rank] = Statistics(count, total, head.square(upper, total.shape[1]))
    return statistics


def _statistics_agree(count: NDArray[Any], total: NDArray[Any], upper: NDArray[Any]) -> bool:
    if total.ndim != 2 or count.shape != total.shape[:1] or total.shape[1] > FEATURES_LIMIT:
        return False
    features = total.shape[1]
    if any(part.dtype.kind != "f" for part in (count, total, upper)):
        return False
    return upper.shape == (features * (features + 1) // 2,) and bool((count >= 0).all())
