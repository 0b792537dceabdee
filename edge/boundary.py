"""What crosses a cut, taken apart by samples: each one's numbers as bytes, and micro-batches of them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.manifest import Tensor

Array = NDArray[Any]
HALF = "float16"
LARGEST = float(np.finfo(np.float16).max)
SAME = 0.02  # of the largest value: how far a sample may be from itself elsewhere in a micro-batch


@dataclass(frozen=True)
class Part:
    """One tensor: its type in graphs, its type as it is kept, and how many numbers a sample has of it."""

    name: str
    dtype: str
    kept: str
    count: int

    @property
    def row_bytes(self) -> int:
        """Of a sample."""
        return int(np.dtype(self.kept).itemsize) * self.count


@dataclass(frozen=True)
class Boundary:
    """The tensors that cross, in order. Floats of 32 bits may be kept in 16; all others are kept as they are."""

    parts: tuple[Part, ...]

    @property
    def row_bytes(self) -> int:
        """What a sample takes."""
        return sum(part.row_bytes for part in self.parts)

    def like(self, other: Boundary) -> bool:
        """Whether both have the same tensors, however these are kept."""
        return self.wide([p.name for p in self.parts]) == other.wide([p.name for p in other.parts])

    def wide(self, names: Sequence[str]) -> Boundary:
        """The same with some tensors kept in their own type."""
        return Boundary(tuple(replace(p, kept=p.dtype) if p.name in names else p for p in self.parts))

    def beyond(self, made: Mapping[str, Array]) -> list[str]:
        """Names of the tensors whose values float16 cannot hold, though they are to be kept in it; it holds infinity.

        >>> Boundary((Part("mask", "float32", "float16", 1),)).beyond({"mask": np.array([-3.4e38], np.float32)})
        ['mask']
        """
        halves = [p.name for p in self.parts if p.kept != p.dtype]
        return [name for name in halves if not np.abs(made[name][~np.isinf(made[name])]).max(initial=0) <= LARGEST]

    def packed(self, made: Mapping[str, Array], batch: int) -> list[bytes]:
        """A micro-batch as it leaves the trunk, sample by sample."""
        columns = [_rows(made[part.name], batch).astype(part.kept) for part in self.parts]
        return [b"".join(column[row].tobytes() for column in columns) for row in range(batch)]

    def unpacked(self, rows: Sequence[bytes], shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
        """A micro-batch of samples, in the shapes that graphs take.

        >>> boundary = Boundary((Part("x", "float32", "float16", 2), Part("ids", "int64", "int64", 1)))
        >>> made = {"x": np.array([[0.5, 1], [2, 3]], np.float32), "ids": np.array([[7], [8]])}
        >>> found = boundary.unpacked(boundary.packed(made, 2)[::-1], {"x": (2, 2), "ids": (2, 1)})
        >>> found["x"].tolist(), found["ids"].tolist()
        ([[2.0, 3.0], [0.5, 1.0]], [[8], [7]])
        """
        out, at = {}, 0
        for part in self.parts:
            own = [np.frombuffer(row, part.kept, part.count, at) for row in rows]
            out[part.name] = np.stack(own).astype(part.dtype).reshape(shapes[part.name])
            at += part.row_bytes
        return out

    def turned(self, made: Mapping[str, Array], other: Mapping[str, Array], batch: int) -> bool:
        """Whether `other` has the samples of `made`, each one place further, the last one first."""
        pairs = ((_rows(made[p.name], batch), _rows(other[p.name], batch)) for p in self.parts)
        return all(_alike(np.roll(one, 1, axis=0), two) for one, two in pairs)


def boundary_of(tensors: Sequence[Tensor], batch: int, *, exact: bool) -> Boundary | None:
    """The boundary of tensors as graphs list them; None where they are not the same for each of `batch` samples."""
    parts = []
    for tensor in tensors:
        count = int(np.prod([dim if isinstance(dim, int) else 0 for dim in tensor.shape], dtype=np.int64))
        if not tensor.shape or count < batch or count % batch:
            return None
        half = tensor.dtype == "float32" and not exact
        parts.append(Part(tensor.name, tensor.dtype, HALF if half else tensor.dtype, count // batch))
    return Boundary(tuple(parts)) if parts else None


def _rows(tensor: Array, batch: int) -> Array:
    return tensor.reshape(batch, -1)


def _alike(one: Array, other: Array) -> bool:
    """Whether numbers are the same, floats nearly so; where a mask is infinite the other must be, too.

    >>> mask = np.array([-np.inf, 0, 1])
    >>> _alike(mask, mask + 0.01), _alike(mask, np.array([0, 0, 1.0])), _alike(mask, -mask)
    (True, False, False)
    """
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite]):
        return False
    return bool(np.abs(one[finite] - other[finite]).max(initial=0) <= SAME * np.abs(one[finite]).max(initial=0))
