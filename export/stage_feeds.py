"""What the graphs of a stage are fed while they are checked and measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import feeds
from export.drawn import draw_inputs
from export.prepare import Prepared

SEED = 20


def checking_values(prepared: Prepared, batch: int, rank: int) -> dict[str, NDArray[Any]]:
    """Real input, states, an adapter and a head that are not zero, labels and weights."""
    graph, states = prepared.whole(batch).graph, {pair.input for pair in prepared.captured.states}
    others = [str(value.name) for value in graph.inputs if value.name not in states]
    values = {**prepared.samples(batch, None)[-1], **draw_inputs(graph, SEED + 4, others)}
    values |= feeds.adapter(prepared.sites, rank, SEED + 1)
    if prepared.head is not None:
        values |= feeds.head(prepared.head, prepared.classes, SEED + 2)
        values |= feeds.targets(batch, prepared.classes, SEED + 3)
        values |= feeds.gradient(prepared.head, batch, SEED + 5)
    if prepared.captured.loss is not None:
        values |= feeds.next_tokens(values["input_ids"], values["attention_mask"], SEED + 3)
    return values


def spread_ids(prepared: Prepared, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Token ids at even distances, so that a run touches as much of an embedding table as any can."""
    if (prepared.head is None and prepared.captured.loss is None) or "input_ids" not in given:
        return {}
    ids = given["input_ids"]
    vocabulary = feeds.vocabulary_of(prepared.captured.preprocess)
    spread = np.linspace(0, vocabulary - 1, ids.size).astype(np.int64)
    return {"input_ids": spread.reshape(ids.shape), "attention_mask": np.ones_like(ids)}
