"""What every graph of a bundle is fed: its golden input, adapters that are not zero, labels, and what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.chain import chain_of
from export.write import read_golden
from wire.bundle import Bundle
from wire.manifest import Bucket, Graph, Tensor

Values = dict[str, NDArray[Any]]
SEED = 11
SPREAD = 0.05  # of the entries of adapters
PER_ROW = ("labels", "weights")


def feeds_of(bundle: Bundle) -> dict[str, Values]:
    """What each graph is fed, by its file: real rows, and gradients that really arrive.

    Args:
        bundle: checked; its golden input is cut to the rows and tokens of each bucket, adapters have the plan's rank.
    """
    out: dict[str, Values] = {}
    for bucket in bundle.manifest.buckets:
        graphs = [g for s in bundle.manifest.segments for g in s.graphs if g.bucket == bucket.name]
        values = _values(bundle, bucket, graphs)
        out |= {g.file: {t.name: values[t.name] for t in g.inputs if t.name in values} for g in graphs}
    return out


def _values(bundle: Bundle, bucket: Bucket, graphs: list[Graph]) -> Values:
    m, rng = bundle.manifest, np.random.default_rng(SEED)
    golden, _ = read_golden(bundle.path(m.golden.file))
    taken = {tensor.name: tensor for graph in graphs for tensor in graph.inputs}
    slots = {name for slot in m.slots for name in (slot.a, slot.b, slot.bias)}
    chain = chain_of(bundle, bucket.name)
    fed = {name: _cut(array, taken[name]) for name, array in golden.items() if name in taken and name not in slots}
    fed |= {state.input: np.zeros(state.shape, state.dtype) for state in m.states}
    for name in slots & taken.keys():
        shape = [m.plan.rank if isinstance(size, str) else size for size in taken[name].shape]
        fed[name] = (SPREAD * rng.standard_normal(shape)).astype(np.float32)
    for name in taken.keys() & set(PER_ROW):
        shape = [int(size) for size in taken[name].shape]
        drawn = rng.integers(0, max(1, len(m.labels)), shape) if name == "labels" else rng.uniform(0.5, 1.5, shape)
        fed[name] = drawn.astype(taken[name].dtype)
    values = chain.backward(chain.forward(fed))
    chain.close()
    return values


def _cut(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The first rows and tokens of an input."""
    return np.asarray(array[tuple(slice(size if isinstance(size, int) else None) for size in tensor.shape)])
