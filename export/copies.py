"""Copies of a segment's graph to look into it: they refer to the same weights, and are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import onnx_ir as ir

from console.errors import VerificationError
from export.chain import Chain, Link


@contextmanager
def copied(chain: Chain, segment: str, change: Callable[[ir.Graph], None]) -> Iterator[Chain]:
    """The same chain with a changed copy of one segment's forward graph, which lies beside it.

    The chain's sessions are given up first, so that the weights are not there twice.
    """
    chain.close()
    links = [_copy(link, change) if link.name == segment else link for link in chain.links]
    try:
        yield chain.beside(links)
    finally:
        chain.close()
        for link in links:
            if link.name == segment:
                link.forward.unlink(missing_ok=True)


def _copy(link: Link, change: Callable[[ir.Graph], None]) -> Link:
    model = ir.load(link.forward)
    change(model.graph)
    path = link.forward.with_name(f"{link.forward.stem}.copy.onnx")
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return replace(link, forward=path)


def find(graph: ir.Graph, name: str) -> ir.Value | None:
    """A value that a graph takes or makes."""
    made = (value for node in graph for value in node.outputs)
    return next((value for value in (*graph.inputs, *made) if value.name == name), None)


def typed(graph: ir.Graph, name: str, shape: tuple[int, ...]) -> ir.Value:
    """The same, as float32 of a shape, so that it can be an output.

    Raises:
        VerificationError: there is none.
    """
    value = find(graph, name)
    if value is None:
        raise VerificationError(
            f"expected {name} in the shipped graph, as in fp32, found no such value; report this model"
        )
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return value


def watch(graph: ir.Graph, name: str, shape: tuple[int, ...]) -> None:
    """Make a value of a graph an output under its own name; one that enters or leaves is known already."""
    value = typed(graph, name, shape)
    if not value.is_graph_input() and not value.is_graph_output():
        graph.outputs.append(value)
