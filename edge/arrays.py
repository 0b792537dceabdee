"""Arrays from outside: read from .npz or JSON, brought to the shapes of a bundle's inputs, and written back."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, StorageError, join
from edge.archive import open_arrays
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.manifest import Tensor

Array = NDArray[Any]
Values = dict[str, Array]
LIMIT_BYTES = 1 << 30


def read_arrays(path: Path) -> Values:
    """Arrays by name from an .npz file, or from a JSON object of nested lists; nothing is unpickled.

    Raises:
        StorageError: the file cannot be read.
        BadData: it holds something else.
    """
    try:
        if path.suffix == ".npz":
            return {name: np.array(value) for name, value in open_arrays(path).items()}
        decoded = parse_json(read_bytes(path, "an input", LIMIT_BYTES), finite=False)
        table = decoded if isinstance(decoded, dict) else {"it": decoded}
        found = {str(name): np.asarray(value) for name, value in table.items()}
        odd = [name for name, value in found.items() if value.dtype.kind not in "biuf" or table is not decoded]
        if odd:
            raise ValueError(f"{odd[0]} is no array of numbers")
    except OSError as error:
        raise StorageError(
            f"expected to read {path}, which failed ({error.strerror or error}); check the path"
        ) from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise BadData(
            f'expected arrays by name in {path} (.npz, or JSON as {{"name": [[1, 2], ...]}}), found something else '
            f"({error}); mend the file"
        ) from error
    return found


def read_all(paths: Sequence[Path]) -> Values:
    """The arrays of several files; the last one wins where two have one name.

    Raises:
        StorageError, BadData: see `read_arrays`.
    """
    values: Values = {}
    for path in paths:
        values |= read_arrays(path)
    return values


def write_arrays(path: Path, values: Mapping[str, Array]) -> None:
    """Write an .npz file; it is there as a whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    arrays: dict[str, Any] = dict(values)
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)
        write_atomic(path, buffer.getvalue())


def checked(given: Mapping[str, Array], inputs: Sequence[Tensor], *, stepped: bool = False) -> Values:
    """Arrays in the types of a model's inputs, after a look at every shape but for the first dimension.

    Args:
        given: arrays by name.
        inputs: what the model takes.
        stepped: whether an array may have one more axis in front: steps of time.

    Raises:
        BadData: naming everything that is absent, unknown or of another shape or type.
    """
    wanted = {tensor.name: tensor for tensor in inputs}
    problems = [f"{name} {list(t.shape)} is absent" for name, t in wanted.items() if name not in given]
    problems += [f"{name} is not an input" for name in given if name not in wanted]
    values: Values = {}
    for name in wanted.keys() & given.keys():
        array, tensor = given[name], wanted[name]
        extra = array.ndim - len(tensor.shape)
        if extra not in ((0, 1) if stepped else (0,)) or array.shape[extra + 1 :] != tensor.shape[1:]:
            steps = " (or steps of it)" if stepped else ""
            problems.append(f"{name} must be {list(tensor.shape)}{steps}, not {list(array.shape)}")
        elif not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
            problems.append(f"{name} must be {tensor.dtype}, not {array.dtype}")
        else:
            values[name] = array.astype(tensor.dtype)
    if problems:
        raise BadData(f"expected arrays that fit the model's inputs, but {join(sorted(problems))}; mend the input")
    return values


def in_batches(run: Callable[[Values], Values], given: Values, inputs: Sequence[Tensor]) -> Values:
    """Run rows in the batches that a graph is fixed for; a short last one is filled up by rows that do not count.

    Raises:
        BadData: inputs have unequal numbers of rows.
    """
    batch = next((int(t.shape[0]) for t in inputs if t.shape), 1)
    counts = {name: len(given[name]) for t in inputs if (name := t.name) in given and t.shape and t.shape[0] == batch}
    count = max(counts.values(), default=batch)
    if set(counts.values()) - {count}:
        shown = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise BadData(f"expected as many rows in every input, found {shown}; mend the input")
    found: list[Values] = []
    for start in range(0, count, batch):
        chosen = np.minimum(np.arange(start, start + batch), count - 1)
        made = run({name: array[chosen] if name in counts else array for name, array in given.items()})
        kept = min(batch, count - start)
        found.append({n: v[:kept] if v.ndim and len(v) == batch else v for n, v in made.items()})
    last = found[-1]
    return {name: np.concatenate([f[name] for f in found]) if value.ndim else value for name, value in last.items()}
