"""Is the graph of an ONNX file one that can be computed: every value made once, before it is read?

Nodes out of order are sorted, as runtimes do; a circle is refused with the nodes in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

import onnx

from export.sources.onnx_tensors import Store, check_tensor
from export.sources.problems import Problems, short

DEEPEST = 12  # If, Loop and Scan inside each other
MOST_NODES = 500_000

Graph = onnx.GraphProto


def check_graph(graph: Graph, store: Store, outer: frozenset[str] = frozenset(), depth: int = 0) -> None:
    """Check names, order and tensors of a graph and of the graphs in its nodes; sort its nodes if need be.

    Args:
        graph: changed only where nodes are out of order.
        store: of the file; collects the problems, and knows the places of the main graph's initializers.
        outer: names of the graphs around it.
        depth: how many those are.
    """
    problems = store.problems
    where = "" if depth == 0 else f" in the graph {short(graph.name)}"
    if depth > DEEPEST or len(graph.node) > MOST_NODES:
        limit = f"more than {DEEPEST} graphs inside each other" if depth > DEEPEST else f"more than {MOST_NODES} nodes"
        problems.unsupported.append(limit)
        return
    if graph.sparse_initializer:
        problems.unsupported.append(f"sparse tensors{where}")
    for index, tensor in enumerate(graph.initializer):
        check_tensor(tensor, store, store.places.get(index) if depth == 0 else None)
    known = _names(graph, outer, problems, where)
    # what is read from the graphs around is checked there
    for node in graph.node:
        for attribute in node.attribute:
            for tensor in _tensors(attribute):
                check_tensor(tensor, store)
            for body in graphs_of(attribute):
                check_graph(body, store, known, depth + 1)
    missing = [
        f"the node {label(node)} reads {short(name)}, which nothing makes{where}"
        for node in graph.node
        for name in node.input
        if name and name not in known
    ]
    missing += [f"the output {short(o.name)}, which nothing makes{where}" for o in graph.output if o.name not in known]
    problems.broken.extend(missing)
    handed = [o.name for o in graph.output if o.name in outer]
    # no runtime takes it
    problems.broken += [f"the output {short(n)}{where}, which is a value of the graph around it" for n in handed]
    if not missing:
        _sort(graph, problems, where)


def check_function(function: onnx.FunctionProto, store: Store) -> None:
    """The same for a function, whose inputs and outputs have names only."""
    body = Graph(name=function.name, node=function.node)
    body.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
    body.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    check_graph(body, store, depth=1)
    del function.node[:]
    function.node.extend(body.node)


def _names(graph: Graph, outer: frozenset[str], problems: Problems, where: str) -> frozenset[str]:
    """All names that nodes of a graph may read; names that are made twice are problems."""
    inputs = [value.name for value in graph.input]
    initializers = [tensor.name for tensor in graph.initializer]
    made = [name for node in graph.node for name in node.output if name]
    for what, names in (("inputs", inputs), ("tensors", initializers), ("outputs", [o.name for o in graph.output])):
        problems.broken.extend(f"two {what} called {short(name)}{where}" for name in _twice(names))
        if "" in names:
            problems.broken.append(f"one of the {what} without a name{where}")
    taken = {*inputs, *initializers}
    clash = [*_twice(made), *(name for name in made if name in taken)]
    problems.broken.extend(f"two values called {short(name)}{where}" for name in dict.fromkeys(clash))
    hidden = sorted((taken | set(made)) & outer)
    problems.broken.extend(
        f"the value {short(name)}{where}, which is also one of the graph around it" for name in hidden
    )
    return outer | taken | set(made)


def _sort(graph: Graph, problems: Problems, where: str) -> None:
    """Put nodes behind what they read, those that come first in the file first."""
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = [{made_by[name] for name in reads(node) if name in made_by} for node in graph.node]
    if all(max(need, default=-1) < index for index, need in enumerate(needs)):
        return
    readers: dict[int, list[int]] = {}
    for index, need in enumerate(needs):
        for other in need:
            readers.setdefault(other, []).append(index)
    waiting = [len(need) for need in needs]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(index := heappop(ready))
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heappush(ready, reader)
    if len(order) < len(waiting):
        stuck = _circle(needs, {index for index, count in enumerate(waiting) if count})
        shown = " and ".join(label(graph.node[index]) for index in stuck[:3])
        problems.broken.append(f"nodes that wait for each other: {shown}{where}")
        return
    nodes = list(graph.node)
    sorted_nodes = [nodes[index] for index in order]
    del graph.node[:]
    graph.node.extend(sorted_nodes)


def _circle(needs: list[set[int]], stuck: set[int]) -> list[int]:
    """One circle among nodes each of which waits for another: walk back until a node comes again."""
    seen: list[int] = []
    at = min(stuck)
    while at not in seen:
        seen.append(at)
        at = min(needs[at] & stuck)
    return sorted(seen[seen.index(at) :])


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, and that the graphs in it read from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in graphs_of(attribute):
            inside = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
            inside |= {name for inner in body.node for name in inner.output}
            taken = (name for inner in body.node for name in reads(inner))
            yield from (name for name in (*taken, *(o.name for o in body.output)) if name not in inside)


def graphs_of(attribute: onnx.AttributeProto) -> list[Graph]:
    """The graphs in an attribute."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def all_nodes(nodes: Iterable[onnx.NodeProto], depth: int = 0) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs in them."""
    for node in nodes:
        yield node
        if depth < DEEPEST:
            for attribute in node.attribute:
                for body in graphs_of(attribute):
                    yield from all_nodes(body.node, depth + 1)


def _tensors(attribute: onnx.AttributeProto) -> list[onnx.TensorProto]:
    return [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]


def label(node: onnx.NodeProto) -> str:
    """A node by its name, or by its operator and first output where it has none."""
    if node.name:
        return short(node.name)
    return f"{node.op_type} that makes {short(next(iter(node.output), ''))}"


def _twice(names: list[str]) -> list[str]:
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name and (name in seen or seen.add(name))))  # type: ignore[func-returns-value]  # add() is the usual way to remember while filtering
