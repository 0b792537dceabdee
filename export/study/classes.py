"""Labels of a data file as positions among a model's logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError, join
from export.study.data import Items

LONGEST_NUMBER = 18  # digits


def names_of(given: Sequence[str], own: Sequence[str], count: int) -> tuple[str, ...]:
    """What the classes are called: as the user says, else as the model does; empty where nobody says.

    Args:
        given: by the user.
        own: by the model.
        count: how many logits there are.

    Raises:
        UsageError: the user names more or fewer.
    """
    if given and len(given) != count:
        raise UsageError(f"expected {count} labels for {count} logits of this model, found {len(given)} in --labels")
    return tuple(given or (own if len(own) == count else ()))


def positions_of(items: Items, names: Sequence[str], count: int, path: Path) -> NDArray[np.int64]:
    """The logit that each item's label means: its name, or, where it is none, its number: int64 [items].

    Raises:
        BadData: naming every item whose label is neither.
    """
    known = {name: at for at, name in enumerate(names)}
    found, problems = [], []
    for place, label in zip(items.places, items.labels, strict=True):
        is_number = label.isascii() and label.isdigit() and len(label) < LONGEST_NUMBER
        at = known.get(label, int(label) if is_number else -1)
        found.append(at)
        if not 0 <= at < count:
            problems.append(f"{place}: {label!r}")
    if problems:
        few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise BadData(
            f"expected labels among {few or 'the classes'} or numbers of 0 to {count - 1} in {path}, "
            f"found {join(problems)}; correct them, or name the classes with --labels FILE"
        )
    return np.asarray(found, np.int64)
