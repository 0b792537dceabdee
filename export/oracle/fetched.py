"""Values inside a written graph: a copy of it that returns them as well, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from export.chain import Graph, Values
from export.values import value_bytes
from wire.manifest import Options

GROUP_BYTES = 128 << 20  # a run keeps all that it returns until it ends


def fetch(path: Path, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], options: Options) -> Values:
    """Values of a run by their names: outputs of nodes, outputs and inputs of the graph, and its initializers."""
    held = ir.load(path).graph.initializers
    own = {name: value for name, value in feeds.items() if name in names}
    stored = {name: held[name].const_value for name in names if name in held and name not in own}
    own |= {name: tensor.numpy() for name, tensor in stored.items() if tensor is not None}
    inside = [name for name in names if name not in own]
    if not inside:
        return own
    with _returning(path, inside) as other:
        run = Graph(other, options)
        values = run.session.run(inside, run.feeds(feeds))
    return {**own, **dict(zip(inside, values, strict=True))}


@contextmanager
def _returning(path: Path, names: Sequence[str]) -> Iterator[Path]:
    """A copy of a graph that returns these values and nothing else; it reads the same weight files."""
    model = ir.load(path)
    made = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [made[name] for name in names]
    other = path.with_name(f".{path.stem}.{token_hex(4)}.onnx")
    try:
        other.write_bytes(ir.to_proto(model).SerializeToString())
        yield other
    finally:
        other.unlink(missing_ok=True)


def groups(wanted: Sequence[tuple[ir.Value, ...]], limit_bytes: int = GROUP_BYTES) -> list[list[int]]:
    """Positions of what is wanted, in groups whose values take so many bytes or are one alone."""
    out: list[list[int]] = []
    held: set[ir.Value] = set()
    for position, values in enumerate(wanted):
        if not out or sum(_size(value) for value in held | set(values)) > limit_bytes:
            out.append([])
            held = set()
        out[-1].append(position)
        held |= set(values)
    return out


def _size(value: ir.Value) -> int:
    known = value.shape is not None and all(isinstance(dim, int) for dim in value.shape) and value.dtype is not None
    return value_bytes(value) if known else 0
