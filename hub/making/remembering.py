"""What a server optimiser remembers hangs on a version: a blob that its body names, and no other place.

So a version that is made again after a kill has the same memory, and one that the gate refuses takes its memory with
it: the next round starts from its parent and from what that one remembers. One blob per slot (safetensors, float32),
so that one slot is in memory at a time, and one that lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from console.errors import BadData, IntegrityError
from hub.aggregation.method import Array
from hub.aggregation.optimisers.optimiser import State
from hub.store.blobs import Blobs
from wire.json_text import parse_json

INDEX = "edgequilt-optimiser"


def slots_of(blobs: Blobs, name: str, optimiser: str) -> dict[str, str]:
    """The blobs of a memory by slot; empty if there is none, or if it is another optimiser's.

    Raises:
        StorageError, IntegrityError: it cannot be read.
    """
    found, slots = _index(blobs, name) if name else ("", {})
    return slots if found == optimiser else {}


def blob_names(blobs: Blobs, name: str) -> set[str]:
    """All blobs of a memory: the list, and what it lists if it is there."""
    if not name:
        return set()
    return {name, *_index(blobs, name)[1].values()} if blobs.path(name).exists() else {name}


def _index(blobs: Blobs, name: str) -> tuple[str, dict[str, str]]:
    """Whose memory it is, and its blobs by slot."""
    try:
        index = parse_json(blobs.get(name))[INDEX]
        return str(index["name"]), {str(slot): str(blob) for slot, blob in index["slots"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(_broken(name, "a list of slots", error)) from error


def put_slots(blobs: Blobs, optimiser: str, slots: Mapping[str, str]) -> str:
    """Keep the list of a memory; the name of its blob, empty for a memory of nothing."""
    if not slots:
        return ""
    index = {INDEX: {"name": optimiser, "slots": dict(sorted(slots.items()))}}
    return blobs.put(json.dumps(index, separators=(",", ":")).encode())


def read_slot(blobs: Blobs, name: str) -> dict[str, Array]:
    """What is remembered of a slot."""
    try:
        return {k: v.astype(np.float64) for k, v in safetensors.numpy.load(blobs.get(name)).items()}
    except (safetensors.SafetensorError, ValueError) as error:
        raise IntegrityError(_broken(name, "the memory of a slot", error)) from error


def put_slot(blobs: Blobs, state: State) -> str:
    """Keep what is remembered of a slot; the name of its blob.

    Raises:
        BadData: it does not fit float32.
        StorageError: it cannot be written.
    """
    tensors = {name: np.asarray(value, np.float32, order="C") for name, value in sorted(state.items())}
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise BadData("expected what the optimiser remembers to fit float32, found that it does not; lower server_rate")
    return blobs.put(safetensors.numpy.save(tensors))


def _broken(name: str, what: str, error: Exception) -> str:
    return (
        f"expected {what} in blob {name[:12]}, found something else ({error}); restore the hub's folder from a backup"
    )
