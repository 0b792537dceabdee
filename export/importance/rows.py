"""Rows of data as batches of the whole model, with labels: what its loss is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import BadData, UsageError, join
from export import feeds
from export.activations.calibrate import check_candidates, required
from export.pictures import opened
from export.study.data import Items

if TYPE_CHECKING:
    from export.prepare import Prepared

Array = NDArray[Any]
IGNORED = -100
MOST = 10  # problems that are named


@dataclass(frozen=True)
class Batch:
    """One run: what is fed, and the labels of its rows, int64 [N], of which `IGNORED` ones count nothing."""

    feeds: dict[str, Array]
    labels: NDArray[np.int64]

    @property
    def counted(self) -> int:
        """How many labels there are."""
        return int((self.labels != IGNORED).sum())


def batches_of(prepared: Prepared, items: Items, labels: Sequence[str], batch: int) -> list[Batch]:
    """Batches of a model that learns, the last one filled up with rows that count nothing.

    Args:
        prepared: a decoder that learns its next token, or a model with a head.
        items: rows; under a head with labels.
        labels: of the head, in the order of its logits.
        batch: rows of a run.

    Raises:
        UsageError: there is nothing that could be learned from them.
        BadData: they do not fit the model, naming what does not.
    """
    whole = prepared.whole(batch)
    if prepared.captured.loss is not None:
        arrays, wanted = _texts(prepared, items, whole)
    else:
        arrays, wanted = _samples(prepared, items, whole), _classes(items, labels)
    count = check_candidates(whole, arrays)
    made = []
    for start in range(0, count, batch):
        part = np.arange(start, min(start + batch, count))
        filled = np.concatenate([part, np.repeat(part[:1], batch - len(part))])
        own = wanted[filled].copy()
        own[len(part) :] = IGNORED
        made.append(Batch({name: array[filled] for name, array in arrays.items()}, own.ravel()))
    return [one for one in made if one.counted]


def _classes(items: Items, labels: Sequence[str]) -> NDArray[np.int64]:
    """The logit of each item's label.

    Raises:
        UsageError: no labels.
        BadData: labels that the head does not have.
    """
    if not items.labels:
        raise UsageError("expected rows with labels to measure importance on, found none; add a label to each")
    known = {name: at for at, name in enumerate(labels)}
    pairs = list(zip(items.places, items.labels, strict=True))
    problems = [f"{place}: {label!r}" for place, label in pairs if label not in known]
    if problems:
        raise BadData(f"expected labels of the head ({join(list(labels), MOST)}), found {join(problems, MOST)}")
    return np.array([known[label] for _, label in pairs], np.int64)


def _samples(prepared: Prepared, items: Items, whole: ir.Model) -> dict[str, Array]:
    captured, read = prepared.captured, required(whole)
    if items.texts:
        if prepared.sequence is None or not captured.preprocess.files:
            raise UsageError(
                f"expected rows as .npz with an array per input for {captured.name}, which has no tokenizer, "
                "found texts"
            )
        found: Mapping[str, Array] = feeds.encoded(items.texts, prepared.sequence, captured.preprocess)
    else:
        found = opened(items.pictures, captured) if items.pictures else items.arrays
    return _typed({n: a for n, a in found.items() if n in read or not items.texts}, read)


def _texts(prepared: Prepared, items: Items, whole: ir.Model) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """What a decoder reads of texts, and the token that follows each one, int64 [texts, tokens]."""
    record, length = prepared.captured.generate, prepared.sequence
    if record is None or length is None or not items.texts or not prepared.captured.preprocess.files:
        raise UsageError("expected texts to measure the importance of a decoder's weights on, found other rows")
    found = feeds.encoded(items.texts, length, prepared.captured.preprocess)
    ids, mask = found["input_ids"], found["attention_mask"]
    labels = np.full(ids.shape, IGNORED, np.int64)
    labels[:, :-1] = np.where(mask[:, 1:] * mask[:, :-1] > 0, ids[:, 1:], IGNORED)
    if not (labels != IGNORED).any():
        raise BadData("expected a text of at least two tokens, found none; give longer ones")
    named = {record.tokens: ids, record.mask: mask, record.positions: np.maximum(mask.cumsum(axis=1) - 1, 0)}
    return _typed({name: array for name, array in named.items() if name is not None}, required(whole)), labels


def _typed(arrays: Mapping[str, Array], read: Mapping[str, ir.Value]) -> dict[str, Array]:
    """Whole numbers as the graph takes them."""
    types = {name: value.dtype.numpy() for name, value in read.items() if value.dtype is not None}
    return {n: a.astype(types[n]) if n in types and a.dtype.kind in "iub" else a for n, a in arrays.items()}
