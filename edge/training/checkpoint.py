"""A session on disk: one safetensors file, whole or not there, that a killed run goes on from with the same bytes.

Arrays are `arrays/NAME`, `state/NAME`, `before/arrays/NAME`, `before/state/NAME` and `best/NAME`, and `begun` is the
adapter file that the run started from; numbers and sentences are JSON in the metadata, with a fingerprint of everything
that the session depends on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from console.errors import BadData, StorageError
from edge.training.history import Course, Look, Loss, Session, Undone
from wire.adapter import read_adapter, to_bytes
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.record import plain, read_record

FORMAT = "edgequilt-training-1"
LIMIT_BYTES = 1 << 31
HEADER_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class _Numbers:
    """A session without its arrays."""

    at: int
    stale: int
    rate: float
    fresh_undone: int
    over: str
    seconds: float
    losses: tuple[Loss, ...]
    looks: tuple[Look, ...]
    undone: tuple[Undone, ...]


@dataclass(frozen=True)
class _Course:
    """What was decided, without the adapter."""

    trainer: str
    tier: str
    steps: int | None
    directions: int
    micro_batch: int | None


def write(path: Path, session: Session, fingerprint: str) -> None:
    """Put a session in the place of the one before.

    Raises:
        StorageError: it cannot be written; the one before is still there.
    """
    tensors = _flat("arrays", session.arrays) | _flat("state", session.state)
    if session.before is not None:
        tensors |= _flat("before/arrays", session.before[0]) | _flat("before/state", session.before[1])
    if session.best is not None:
        tensors |= _flat("best", session.best)
    numbers = {f.name: plain(getattr(session, f.name)) for f in fields(_Numbers)}
    if session.course is not None:
        numbers["course"] = {f.name: getattr(session.course, f.name) for f in fields(_Course)}
        tensors["begun"] = np.frombuffer(to_bytes(session.course.adapter), np.uint8)
    parts = [name for name in ("before", "best") if getattr(session, name) is not None]
    told = {"format": FORMAT, "fingerprint": fingerprint, "numbers": json.dumps(numbers), "parts": json.dumps(parts)}
    write_atomic(path, safetensors.numpy.save(tensors, metadata=told), mode=0o600)


def read(path: Path, fingerprint: str) -> Session | None:
    """The session in a file; None where there is no file.

    Raises:
        StorageError: it cannot be read.
        BadData: it is another run's, or no checkpoint.
    """
    if not path.exists():
        return None
    data = read_bytes(path, "a checkpoint", LIMIT_BYTES)
    try:
        told = _metadata(data)
        tensors = safetensors.numpy.load(data)
        parts, decoded = parse_json(told["parts"]), parse_json(told["numbers"], finite=False)
        same = told["fingerprint"] == fingerprint
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadData(
            f"expected a checkpoint in {path}, found something else ({error}); remove it or take another --out"
        ) from error
    if not same:
        raise BadData(
            f"expected the checkpoint {path} to be of the same bundle, data and settings, found another run's; "
            "--restart begins anew, another --out keeps it"
        )
    numbers = read_record(_Numbers, decoded, str(path))
    session = Session(_part("arrays", tensors), _part("state", tensors))
    session = replace(session, **{f.name: getattr(numbers, f.name) for f in fields(_Numbers)})
    if "course" in decoded:
        session = replace(session, course=_course(decoded["course"], tensors, path))
    if "before" in parts:
        session = replace(session, before=(_part("before/arrays", tensors), _part("before/state", tensors)))
    return replace(session, best=_part("best", tensors)) if "best" in parts else session


def _course(decoded: object, tensors: Mapping[str, NDArray[Any]], path: Path) -> Course:
    if "begun" not in tensors:
        raise BadData(f"expected the adapter that a run started from in {path}, found none; --restart begins anew")
    plan, adapter = read_record(_Course, decoded, str(path)), read_adapter(tensors["begun"].tobytes(), str(path))
    return Course(plan.trainer, plan.tier, plan.steps, plan.directions, plan.micro_batch, adapter)


def remove(path: Path) -> None:
    """Once the result is written, nothing is left to go on from.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"expected to remove {path}, which failed ({error.strerror}); remove it by hand") from error


def _flat(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    # the library writes the memory of an array as it lies
    return {f"{prefix}/{name}": np.asarray(array, order="C") for name, array in arrays.items()}


def _part(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    begins = f"{prefix}/"
    return {name.removeprefix(begins): array for name, array in tensors.items() if name.startswith(begins)}


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(HEADER_LIMIT_BYTES, len(data) - 8):
        raise ValueError("header length")
    told = parse_json(data[8 : 8 + size])["__metadata__"]
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']}")
    return {str(key): str(value) for key, value in told.items()}
