"""LSTM, GRU and RNN become their steps, in place: their weights are plain matrices then, which take adapters.

The operators have no gradient rule of their own; their steps are made of operators that have one. What is computed
stays the same (ONNX operators LSTM-14, GRU-14, RNN-14 with the equations in their documentation). All steps read one
weight. An item that is shorter than the others (`sequence_lens`) keeps its state from its end on, or to its beginning
where a direction runs backwards, and gives zeros there, as the operators do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx_ir.convenience import extract

from console.errors import UnsupportedModel
from export.edit import Edit, redirect
from export.gradient.dims import shape_of
from export.gradient.present import present
from export.linears import constant
from export.modules import module_of, positions
from export.recurrent.cells import CELLS, FUNCTIONS, GATES, KNOWN, Cell, Weights, split
from export.values import constant_nodes

Array = NDArray[np.float32]

MOST_STEPS = 128  # of one operator: a step is a dozen nodes, and three dozen with its gradients


@dataclass(frozen=True)
class Recurrent:
    """An operator to write out: its node, its steps, and its weights W, R, B and P as the operator has them."""

    node: ir.Node
    steps: int
    weights: tuple[Array, Array, Array | None, Array | None]

    @property
    def size(self) -> int:
        """Of the hidden state."""
        return int(self.weights[1].shape[2])

    @property
    def directions(self) -> int:
        """1, or 2 where it runs both ways."""
        return 2 if self.node.attributes.get_string("direction", "forward") == "bidirectional" else 1

    @property
    def layout(self) -> int:
        """1 where the batch comes first."""
        return self.node.attributes.get_int("layout", 0)

    @property
    def functions(self) -> list[str]:
        """Of the gates, direction by direction."""
        usual = FUNCTIONS[self.node.op_type] * self.directions
        return list(self.node.attributes.get_strings("activations", usual) or usual)


def recurrent_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Every LSTM, GRU and RNN of the main graph."""
    return [node for node in graph if not node.domain and node.op_type in CELLS]


def unroll(model: ir.Model, frozen: ir.Model) -> None:
    """Write every recurrent operator out as steps, in place.

    Args:
        model: a captured graph, before slots.
        frozen: the same for some micro-batch, with known shapes and folded weights.

    Raises:
        UnsupportedModel: one is longer than 128 steps, or does what plain steps do not; all are named.
    """
    known = {value.name: node for node in frozen.graph for value in node.outputs if node.op_type in CELLS}
    found, problems = [], []
    for node in recurrent_nodes(model.graph):
        same = next((known[value.name] for value in node.outputs if value.name and value.name in known), None)
        one = None if same is None else _read(node, same, frozen)
        problem = "its weights or steps are not known" if one is None else _problem(one)
        if problem:
            problems.append(f"{node.op_type} '{node.name}' ({problem})")
        elif one is not None:
            found.append(one)
    if problems:
        raise UnsupportedModel(
            f"expected recurrent operators that can be written out as at most {MOST_STEPS} steps to train through, "
            f"found {', '.join(problems)}; export with fewer steps, or --mode train-forward, or --mode serve"
        )
    at, layers = positions(model.graph), Counter[str]()
    for one in found:
        module = module_of(one.node, present(one.node.inputs[1]), at[one.node])
        _write_out(model.graph, one, f"/{module.replace('.', '/')}/l{layers[module]}")
        layers[module] += 1


def _read(node: ir.Node, same: ir.Node, frozen: ir.Model) -> Recurrent | None:
    """None where the number of steps or a weight is not known."""
    inputs = [*same.inputs, *[None] * 8]
    shape = None if inputs[0] is None else shape_of(inputs[0])
    steps = None if shape is None else shape[node.attributes.get_int("layout", 0)]
    wanted = [inputs[1], inputs[2], inputs[3], inputs[7] if node.op_type == "LSTM" else None]
    held = [None if value is None else _numbers(value, frozen) for value in wanted]
    if not isinstance(steps, int) or any((v is None) != (n is None) for v, n in zip(wanted, held, strict=True)):
        return None
    w, r, b, p = held
    return None if w is None or r is None else Recurrent(node, steps, (w, r, b, p))


def _numbers(value: ir.Value, model: ir.Model) -> Array | None:
    """What weights alone decide: exporters put matrices together from those of each gate."""
    held = constant(value)
    if held is not None:
        return np.asarray(held.numpy(), np.float32)
    if value.producer() not in constant_nodes(model.graph):
        return None
    graph = extract(model.graph, [], [value])
    alone = ir.external_data.load_to_model(ir.Model(graph, ir_version=model.ir_version))
    session = ort.InferenceSession(ir.to_proto(alone).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {})[0], np.float32)


def _problem(one: Recurrent) -> str:
    """Why it cannot be written out; empty if it can."""
    if one.steps > MOST_STEPS:
        return f"{one.steps} steps"
    if one.node.attributes.get_float("clip", 0.0):
        return "its gates are clipped"
    other = sorted(set(one.functions) - set(KNOWN))
    return f"gates with {', '.join(other)}" if other else ""


def _write_out(graph: ir.Graph, one: Recurrent, root: str) -> None:
    node, edit = one.node, Edit(graph, root)
    inputs = [*node.inputs, *[None] * 8]
    x, lengths, states = present(inputs[0]), inputs[4], inputs[5:7]
    if one.layout:
        x = edit.op("Transpose", x, attributes={"perm": [1, 0, 2]})
    marks = [] if lengths is None else _marks(edit, lengths, one.steps)
    firsts = [
        _first(edit, value, x, one, number) if number == 0 or node.op_type == "LSTM" else None
        for number, value in enumerate(states)
    ]
    made: list[tuple[Sequence[ir.Value], ir.Value, ir.Value | None]] = []
    for direction in range(one.directions):
        back = direction == 1 or node.attributes.get_string("direction", "forward") == "reverse"
        cell = _cell(edit, one, direction, f"{root}_reverse" if back else root)
        began = [None if first is None else first[direction] for first in firsts]
        made.append(_run(cell, x, one.steps, began, marks, back=back))
    edit.prefix = root
    sequences = [
        edit.op("Unsqueeze", _joined(edit, list(ys), 0), edit.constant(f"axis.{k}", [1], np.int64))
        for k, (ys, _, _) in enumerate(made)
    ]
    outputs: list[ir.Value | None] = [_joined(edit, sequences, 1), _joined(edit, [h for _, h, _ in made], 0)]
    cells = [c for _, _, c in made if c is not None]
    outputs.append(_joined(edit, cells, 0) if cells else None)
    for old, new, swapped in zip(node.outputs, outputs, ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2]), strict=False):
        if old.name and new is not None and (list(old.uses()) or old.is_graph_output()):
            redirect(old, edit.op("Transpose", new, attributes={"perm": swapped}) if one.layout else new)
    edit.put_before(node)
    graph.remove(node, safe=True)


def _cell(edit: Edit, one: Recurrent, direction: int, root: str) -> Cell:
    kind, (w, r, b, p) = one.node.op_type, one.weights
    gates = GATES[kind] * one.size
    biases = np.zeros(2 * gates, np.float32) if b is None else b[direction]
    weights = Weights(
        w[direction].T, r[direction].T, biases[:gates], biases[gates:], None if p is None else p[direction]
    )
    each = len(FUNCTIONS[kind])
    flag = "input_forget" if kind == "LSTM" else "linear_before_reset"
    return CELLS[kind](
        edit,
        root,
        weights,
        one.functions[direction * each : (direction + 1) * each],
        flag=bool(one.node.attributes.get_int(flag, 0)),
    )


def _first(edit: Edit, value: ir.Value | None, x: ir.Value, one: Recurrent, number: int) -> Sequence[ir.Value]:
    """The state before the first step, [1, batch, H] of each direction; zeros where none comes in."""
    if value is not None:
        turned = edit.op("Transpose", value, attributes={"perm": [1, 0, 2]}) if one.layout else value
        return split(edit, f"{edit.prefix}", turned, [1] * one.directions, 0)
    batch = edit.op("Gather", edit.op("Shape", x), edit.constant(f"batch.{number}", [1], np.int64))
    one_dim, size = (edit.constant(f"{n}.{number}", [v], np.int64) for n, v in (("one", 1), ("size", one.size)))
    shape = edit.op("Concat", one_dim, batch, size, attributes={"axis": 0})
    zeros = edit.op("Expand", edit.constant(f"zero.{number}", 0.0), shape)
    return [zeros] * one.directions


def _marks(edit: Edit, lengths: ir.Value, steps: int) -> list[ir.Value]:
    """Which items are as long as each step: bool [1, batch, 1]."""
    axes = edit.constant("lengths.axes", [0, 2], np.int64)
    length = edit.op("Unsqueeze", edit.op("Cast", lengths, attributes={"to": int(ir.DataType.INT64)}), axes)
    return [edit.op("Less", edit.constant(f"step.{t}", t, np.int64), length) for t in range(steps)]


def _run(
    cell: Cell, x: ir.Value, steps: int, began: Sequence[ir.Value | None], marks: Sequence[ir.Value], *, back: bool
) -> tuple[Sequence[ir.Value], ir.Value, ir.Value | None]:
    """All steps of a direction: h of each in the order of the input, then the last h and c."""
    h, c = present(began[0]), began[1]
    each = split(cell.edit, f"{cell.root}/steps", cell.inputs(x), [1] * steps, 0)
    made: dict[int, ir.Value] = {}
    for step in reversed(range(steps)) if back else range(steps):
        new, memory = cell.step(each[step], h, c)
        made[step] = new
        if marks:
            made[step] = cell.op("Where", marks[step], new, cell.number("zero", np.zeros((), np.float32)))
            new = cell.op("Where", marks[step], new, h)
            memory = None if memory is None or c is None else cell.op("Where", marks[step], memory, c)
        h, c = new, memory
    return [made[step] for step in range(steps)], h, c


def _joined(edit: Edit, parts: Sequence[ir.Value], axis: int) -> ir.Value:
    return parts[0] if len(parts) == 1 else edit.op("Concat", *parts, attributes={"axis": axis})
