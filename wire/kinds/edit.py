"""Edits of a head: thin factors that are added to its weight, so that an answer is another one, and dropped again.

A head belongs to a rank, and so does its edit: `edit/RANK/A` float32 [features, k] and `edit/RANK/B` float32
[k, classes], k at least 1. The weight that answers is W + A B, summed in float64 over all edits of a version and
rounded to float32 once. A version names its edits one by one (`Version.edits`), each a file of its own, so a board
fetches only what is new, and a version without one of them is the version that it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.kinds.head import Head, pick


@dataclass(frozen=True)
class HeadEdit:
    """a [features, k], b [k, classes]: what is added to a head's weight."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]

    def product(self) -> NDArray[np.float64]:
        """The product A B in float64, [features, classes]."""
        product: NDArray[np.float64] = self.a.astype(np.float64) @ self.b.astype(np.float64)
        return product


Edits = Mapping[int, HeadEdit]  # by rank


def names(rank: int) -> tuple[str, str]:
    """Tensor names of an edit at a rank.

    >>> names(8)
    ('edit/8/A', 'edit/8/B')
    """
    return f"edit/{rank}/A", f"edit/{rank}/B"


def apply(heads: Mapping[int, Head], edits: Iterable[Edits], sign: float = 1.0) -> dict[int, Head]:
    """Heads with edits on top; each rank has the head and the edits that `pick` gives it.

    Args:
        heads: by rank; without any there is nothing to edit.
        edits: of a version.
        sign: -1 takes them off again, which rounding may not undo to the bit.

    >>> edit = HeadEdit(np.ones((2, 1), np.float32), np.ones((1, 1), np.float32))
    >>> made = apply({0: Head(np.zeros((2, 1), np.float32), np.zeros(1, np.float32))}, [{0: edit, 4: edit}, {4: edit}])
    >>> {rank: head.weight.tolist() for rank, head in made.items()}
    {0: [[2.0], [2.0]], 4: [[2.0], [2.0]]}
    """
    found = [edit for edit in edits if edit]
    if not heads or not found:
        return dict(heads)
    made = {}
    for rank in sorted({*heads, *(rank for edit in found for rank in edit)}):
        head, weight = pick(heads, rank), 0.0
        products = [own.product() for own in (pick(edit, rank) for edit in found) if own is not None]
        if head is not None:
            weight = head.weight.astype(np.float64) + sign * np.sum(products, axis=0)
            made[rank] = Head(weight.astype(np.float32), head.bias)
    return made


def tensors_of(edits: Edits) -> dict[str, NDArray[Any]]:
    """The tensors of a file."""
    return {
        name: np.ascontiguousarray(part, np.float32)
        for rank, edit in sorted(edits.items())
        for name, part in zip(names(rank), (edit.a, edit.b), strict=True)
    }


def read(tensors: Mapping[str, NDArray[Any]], known: set[str], problems: list[str]) -> dict[int, HeadEdit]:
    """The edits of a file by rank; what was read is added to `known`, what is wrong to `problems`."""
    matches = (re.fullmatch(r"edit/(0|[1-9][0-9]{0,4})/[AB]", name) for name in tensors)
    found = {}
    for rank in sorted({int(match.group(1)) for match in matches if match}):
        known.update(names(rank))
        a, b = (tensors.get(name) for name in names(rank))
        whole = a is not None and b is not None and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] > 0
        if a is None or b is None or not whole or a.dtype.kind != "f" or b.dtype.kind != "f":
            problems.append(f"the edit of rank {rank} needs A [features, k] and B [k, classes], k at least 1")
            continue
        found[rank] = HeadEdit(a.astype(np.float32), b.astype(np.float32))
    return found
