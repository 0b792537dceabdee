"""The door of NPZ: an array per input of the model, rows first, and `label` [rows]: names, or indices of classes.

Nothing is unpickled. Arrays that `numpy.savez` wrote as they are stay on disk and are mapped from there, so a board
holds the rows of a micro-batch only; those of `savez_compressed` are read as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import StorageError
from edge.archive import Torn, open_arrays
from edge.data.problems import Problems
from edge.data.wanted import Found, Wanted
from wire.manifest import Tensor

Array = NDArray[Any]
LABEL = "label"


def read_npz(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """Rows of a file.

    Raises:
        StorageError: it cannot be read.
    """
    arrays = _opened(path, problems)
    labels = _labels(arrays.pop(LABEL, None), problems)
    count = None if labels is None else len(labels)
    inputs = {t.name: t for t in wanted.inputs}
    for name in sorted(inputs.keys() | arrays.keys()):
        told = _unfit(name, arrays.get(name), inputs.get(name), count)
        if told is not None:
            problems.add("", told)
    if problems.count or labels is None:
        return
    for index, given in enumerate(labels):
        where, sample = f"row {index}", {name: arrays[name][index] for name in inputs}
        odd = next((n for n, v in sample.items() if v.dtype.kind == "f" and not np.all(np.isfinite(v))), None)
        label = _name(given, wanted.labels)
        if odd is not None:
            problems.add(where, f"expected finite numbers, found NaN or infinity in {odd}")
        elif label is None:
            problems.add(where, f"expected a label from 0 to {len(wanted.labels) - 1}, found {given}")
        else:
            yield Found(where, sample, label, digest_of(sample))


def digest_of(sample: Mapping[str, Array]) -> str:
    """SHA-256 of arrays by name: names, types, shapes and numbers."""
    sha = hashlib.sha256()
    for name, value in sorted(sample.items()):
        sha.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def _name(given: Any, labels: tuple[str, ...]) -> str | None:
    if isinstance(given, (str, bytes)):
        return given.decode(errors="replace") if isinstance(given, bytes) else str(given)
    return labels[int(given)] if 0 <= given < len(labels) else None


def _labels(given: Array | None, problems: Problems) -> Array | None:
    if given is None:
        problems.add("", f"expected an array '{LABEL}' with a class per row, found none")
    elif given.ndim != 1 or given.dtype.kind not in "iuUS":
        found = f"{given.dtype} {list(given.shape)}"
        problems.add("", f"expected '{LABEL}' [rows] of names or whole numbers, found {found}")
    else:
        return given
    return None


def _unfit(name: str, array: Array | None, tensor: Tensor | None, count: int | None) -> str | None:
    """What is wrong with an array as a whole."""
    if tensor is None:
        return f"{name} is not an input of the model; remove it"
    wanted = f"{tensor.dtype} [rows, {', '.join(map(str, tensor.shape[1:]))}]"
    if array is None:
        return f"expected an array '{name}' {wanted}, found none"
    found = f"{array.dtype} {list(array.shape)}"
    sides = zip(array.shape[1:], tensor.shape[1:], strict=False)
    if array.ndim != len(tensor.shape) or any(isinstance(w, int) and g != w for g, w in sides):
        return f"expected '{name}' {wanted}, found {found}"
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        return f"expected '{name}' {wanted}, found {found}"
    if count is not None and len(array) != count:
        return f"expected {count} rows in '{name}', as in '{LABEL}', found {len(array)}"
    return None


def _opened(path: Path, problems: Problems) -> dict[str, Array]:
    """Arrays by name, after a look at the checksum of every member."""
    try:
        return open_arrays(path)
    except OSError as error:
        raise StorageError(
            f"expected a data file at {path}, found none that can be read ({error.strerror or error}); check the path"
        ) from error
    except Torn as torn:
        problems.add(str(torn), "expected what its checksum says, found other bytes; write the file again")
    except ValueError as error:
        problems.add("", f"expected arrays by name as numpy.savez writes them, found something else ({error})")
    return {}
