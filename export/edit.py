"""Small edits of a graph: new nodes with readable names, inputs with defaults, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Attribute = int | float | str | Sequence[int]


class Edit:
    """Nodes that are written down first and put into the graph together.

    Args:
        graph: what is edited.
        prefix: every new name begins with it; two edits of one graph have different prefixes.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.graph, self.prefix = graph, prefix
        self.nodes: list[ir.Node] = []

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
        like: ir.Value | None = None,
    ) -> ir.Value:
        """A node with one output; the output, typed as `like`, or by shape inference later on."""
        [output] = self.ops(op_type, 1, *inputs, attributes=attributes, domain=domain)
        if like is not None:
            output.type, output.shape = like.type, like.shape
        return output

    def ops(
        self,
        op_type: str,
        count: int,
        *inputs: ir.Value | None,
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """A node with several outputs."""
        full = f"{self.prefix}/{self._free(op_type)}"
        outputs = [ir.val(f"{full}_output_{number}") for number in range(count)]
        self.nodes.append(ir.node(op_type, inputs, attributes, domain=domain, outputs=outputs, name=full))
        if domain:
            self.graph.opset_imports.setdefault(domain, 1)
        return outputs

    def _free(self, op_type: str) -> str:
        taken = sum(node.op_type == op_type for node in self.nodes)
        return f"{op_type}_{taken}" if taken else op_type

    def constant(self, name: str, content: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> ir.Value:
        """A small initializer."""
        tensor = ir.tensor(np.asarray(content, dtype))
        value = ir.val(f"{self.prefix}/{name}", const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def put_before(self, node: ir.Node) -> None:
        """Into the graph, in the order in which they were written down."""
        self.graph.insert_before(node, self.nodes)

    def put_after(self, node: ir.Node) -> None:
        """The same, behind a node."""
        self.graph.insert_after(node, self.nodes)

    def put_last(self) -> None:
        """The same, at the end."""
        self.graph.extend(self.nodes)


def replace(node: ir.Node, edit: Edit, new: ir.Value) -> None:
    """Put an edit where a node of one output stood; the new value takes the old one's name."""
    old = node.outputs[0]
    edit.put_before(node)
    redirect(old, new)
    edit.graph.remove(node, safe=True)
    if not new.is_graph_output():
        old.name, new.name = None, old.name


def add_input(graph: ir.Graph, name: str, default: npt.NDArray[np.float32], shape: Sequence[int | str]) -> ir.Value:
    """A graph input that may be fed and has a default; a text dimension is symbolic."""
    value = ir.val(name, ir.DataType.FLOAT, list(shape))
    # set afterwards: the default of rank 0 is one value of the symbolic rank, not the shape
    value.const_value = ir.tensor(default, name=name)
    graph.inputs.append(value)
    graph.register_initializer(value)
    return value


def redirect(old: ir.Value, new: ir.Value, keep: Sequence[ir.Node] = ()) -> None:
    """Everything that read `old` reads `new`, but for the nodes in `keep`; an output keeps its name."""
    for use in list(old.uses()):
        if use.node not in keep:
            use.node.replace_input_with(use.idx, new)
    graph = old.graph
    if old.is_graph_output() and graph is not None:
        name = old.name
        old.name, new.name = f"{name}/before", name
        graph.outputs[list(graph.outputs).index(old)] = new
