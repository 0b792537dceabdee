"""The output layer of a decoder in parts of its vocabulary, so that neither its weight nor its logits are ever whole.

Wijmans et al. 2024, arXiv:2411.09009, section 4: the loss needs the logarithm of a sum over the vocabulary and one
logit per token, and both can be gathered part by part. An output layer of 768 x 32,000 restored to float32 takes
94 MiB, and logits of 64 tokens 8 MiB a copy; in parts of 8 MiB a step has one of them at a time. The logits that the
forward graph gives are the parts' side by side: every weight is stored once, for all graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from export.edit import Edit, replace
from export.gradient.dims import dims_of
from export.linears import constant
from export.mapped import Turned, reading
from export.values import is_weight

PART_BYTES = 8 << 20  # of a part's weight in float32


class Part(ir.LazyTensor):
    """Some rows or columns of a matrix, read from it whenever they are read."""

    def __init__(self, source: ir.TensorProtocol, name: str, axis: int, start: int, stop: int) -> None:
        self.source, self.axis, self.start, self.stop = source, axis, start, stop
        sizes = list(source.shape.numpy())
        sizes[axis] = stop - start
        super().__init__(self._read, source.dtype, ir.Shape(sizes), name=name)

    def _read(self) -> ir.TensorProtocol:
        with reading(self.source) as whole:
            own = whole[self.start : self.stop] if self.axis == 0 else whole[:, self.start : self.stop].copy()
            return ir.tensor(own, name=self.name)


@dataclass(frozen=True)
class Parts:
    """An output layer in parts: what all of them multiply, the product of each, and its weight [in, columns]."""

    hidden: ir.Value
    products: tuple[ir.Node, ...]
    weights: tuple[ir.Value, ...]


def split_output(model: ir.Model, logits: str, part_bytes: int = PART_BYTES) -> dict[str, str]:
    """Cut the layer that makes `logits` into parts, in place, where it is larger than one and nothing is beside it.

    Args:
        model: a captured graph with slots, before it is frozen.
        logits: an output.
        part_bytes: of a part's weight in float32, at most, but for rounding.

    Returns:
        The name of the weight that a part is of, by the part's; empty where nothing was done.
    """
    graph = model.graph
    node = next((v.producer() for v in graph.outputs if v.name == logits), None)
    if node is None or node.op_type != "MatMul" or node.domain or node.inputs[1] is None:
        return {}
    weight = node.inputs[1]
    turner = weight.producer()
    turned = turner is not None and turner.op_type == "Transpose" and len(turner.inputs) == 1
    source = turner.inputs[0] if turned and turner is not None else weight
    tensor = None if source is None or not is_weight(source) else constant(source)
    if source is None or tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return {}
    axis = 0 if turned else 1
    columns = int(tensor.shape.numpy()[axis])
    count = -(-tensor.nbytes // part_bytes)
    if count < 2:
        return {}
    edit, names, made = Edit(graph, f"{node.name or logits}/parts"), {}, []
    for k, (start, stop) in enumerate(_bounds(columns, count)):
        name = f"{source.name}.part{k}"
        part: ir.TensorProtocol = Part(tensor, name, axis, start, stop)
        value = ir.val(name, const_value=Turned(part, name) if turned else part)
        graph.register_initializer(value)
        names[name] = str(source.name)
        made.append(edit.op("MatMul", node.inputs[0], value))
    replace(node, edit, edit.op("Concat", *made, attributes={"axis": -1}, like=node.outputs[0]))
    if turned and turner is not None and not turner.outputs[0].uses():
        graph.remove(turner, safe=True)
    if not source.uses():
        graph.initializers.pop(str(source.name), None)
    return names


def _bounds(columns: int, count: int) -> Iterator[tuple[int, int]]:
    """Parts of about equal size that end at multiples of 64: blocks of formats and products have no rest there."""
    size = -(-columns // count // 64) * 64 or columns
    return ((start, min(columns, start + size)) for start in range(0, columns, size))


def parts_of(logits: ir.Value) -> Parts | None:
    """The parts that logits are made of, side by side; None where they are not, or where one is read elsewhere."""
    node = logits.producer()
    if node is None or node.op_type != "Concat" or len(node.inputs) < 2:
        return None
    if node.attributes.get_int("axis", 0) not in (-1, len(dims_of(logits)) - 1):
        return None
    products = [v.producer() for v in node.inputs if v is not None and len(v.uses()) == 1]
    plain = [p for p in products if p is not None and p.op_type == "MatMul" and not p.domain]
    hidden = {p.inputs[0] for p in plain}
    weights = [w for p in plain if (w := p.inputs[1]) is not None and is_weight(w)]
    first = plain[0].inputs[0] if plain else None
    if first is None or len(hidden) > 1 or len(weights) < len(node.inputs):
        return None
    return Parts(first, tuple(plain), tuple(weights))
