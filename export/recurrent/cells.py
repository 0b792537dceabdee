"""One step of LSTM, GRU and RNN in plain operators, by the formulas of the ONNX operators of these names.

H is the hidden size; `x` [1, batch, gates H] is X_t W^T with the biases of W, h and c [1, batch, H]. The functions of
gates are the operator's own f, g, h in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.edit import Edit
from export.gradient.present import present

Array = NDArray[np.float32]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
KNOWN = ("Sigmoid", "Tanh", "Relu")  # without parameters of their own, and with a gradient


@dataclass(frozen=True)
class Weights:
    """Of one direction, as products read them: w [in, gates H], r [H, gates H], and b_w, b_r, p [numbers]."""

    w: Array
    r: Array
    b_w: Array
    b_r: Array
    p: Array | None


class Cell:
    """A direction of an operator, and how it makes the next state.

    Args:
        edit: gets the nodes.
        root: of their names.
        weights: become initializers.
        functions: names of operators.
        flag: `input_forget` of an LSTM, `linear_before_reset` of a GRU.
    """

    def __init__(
        self, edit: Edit, root: str, weights: Weights, functions: Sequence[str], *, flag: bool = False
    ) -> None:
        self.edit, self.root, self.functions, self.flag = edit, root, tuple(functions), flag
        self.size = weights.r.shape[0]
        self._weights, self._made = weights, dict[str, ir.Value]()

    def inputs(self, x: ir.Value) -> ir.Value:
        """X [steps, batch, in] to X W^T with all biases that can be added to it at once: [steps, batch, gates H]."""
        product = self.product("input", x, self._weights.w)
        return self.op("Add", product, self.number("bias", self._summed()))

    def _summed(self) -> Array:
        return np.asarray(self._weights.b_w + self._weights.b_r, np.float32)

    def step(self, x: ir.Value, h: ir.Value, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """The next h, and the next c where there is one."""
        raise NotImplementedError

    def op(self, op_type: str, *inputs: ir.Value) -> ir.Value:
        """A node of one output."""
        self.edit.prefix = self.root
        return self.edit.op(op_type, *inputs)

    def number(self, name: str, content: Array) -> ir.Value:
        """A constant, made once."""
        if name not in self._made:
            self.edit.prefix = self.root
            self._made[name] = self.edit.constant(name, content)
        return self._made[name]

    def product(self, name: str, x: ir.Value, weight: Array) -> ir.Value:
        """x times a weight, which all steps share; the node's name is a module's, so that it can have a slot."""
        path = f"{self.root}/{name}"
        if name not in self._made:
            label = path.strip("/").replace("/", ".")
            made = ir.val(
                f"{label}.weight", const_value=ir.tensor(np.ascontiguousarray(weight), name=f"{label}.weight")
            )
            self.edit.graph.register_initializer(made)
            self._made[name] = made
        self.edit.prefix = path
        return self.edit.op("MatMul", x, self._made[name])

    def parts(self, x: ir.Value, count: int) -> Sequence[ir.Value]:
        """A value cut into equal parts along its last axis."""
        return split(self.edit, f"{self.root}/gates", x, [self.size] * count, -1)


class Lstm(Cell):
    """i = f(x_i + h R_i + P_i c), f = f(x_f + h R_f + P_f c) or 1 - i, c' = f c + i g(x_c + h R_c), o with P_o c'."""

    def step(self, x: ir.Value, h: ir.Value, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """The same."""
        c = present(c)
        f, g, last = self.functions
        i, o, forget, cell = self.parts(self.op("Add", x, self.product("hidden", h, self._weights.r)), 4)
        i = self.op(f, self._peep(i, 0, c))
        keep = self.op("Sub", self.number("one", _ones()), i) if self.flag else self.op(f, self._peep(forget, 2, c))
        made = self.op("Add", self.op("Mul", keep, c), self.op("Mul", i, self.op(g, cell)))
        o = self.op(f, self._peep(o, 1, made))
        return self.op("Mul", o, self.op(last, made)), made

    def _peep(self, gate: ir.Value, number: int, c: ir.Value) -> ir.Value:
        """With the peephole of a gate, of i, o, f in this order."""
        if self._weights.p is None:
            return gate
        own = self._weights.p[number * self.size : (number + 1) * self.size]
        return self.op("Add", gate, self.op("Mul", self.number(f"peephole.{number}", own), c))


class Gru(Cell):
    """z, r = f(x + h R), n = g(x_n + (r h) R_n + b_n), or g(x_n + r (h R_n + b_n)); h' = (1 - z) n + z h."""

    def _summed(self) -> Array:
        late = self._weights.b_r.copy()
        if self.flag:
            late[2 * self.size :] = 0  # it is multiplied by r
        return np.asarray(self._weights.b_w + late, np.float32)

    def step(self, x: ir.Value, h: ir.Value, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """The same."""
        f, g = self.functions
        cut = 2 * self.size
        x_gates, x_new = split(self.edit, f"{self.root}/inputs", x, [cut, self.size], -1)
        if self.flag:
            product = self.product("hidden", h, self._weights.r)
            gates, new = split(self.edit, f"{self.root}/hidden", product, [cut, self.size], -1)
            z, r = self.parts(self.op(f, self.op("Add", x_gates, gates)), 2)
            new = self.op("Mul", r, self.op("Add", new, self.number("late", self._weights.b_r[cut:])))
        else:
            gates = self.product("hidden", h, self._weights.r[:, :cut])
            z, r = self.parts(self.op(f, self.op("Add", x_gates, gates)), 2)
            new = self.product("new", self.op("Mul", r, h), self._weights.r[:, cut:])
        n = self.op(g, self.op("Add", x_new, new))
        stay = self.op("Sub", self.number("one", _ones()), z)
        return self.op("Add", self.op("Mul", stay, n), self.op("Mul", z, h)), None


class Rnn(Cell):
    """h' = f(x + h R)."""

    def step(self, x: ir.Value, h: ir.Value, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """The same."""
        return self.op(self.functions[0], self.op("Add", x, self.product("hidden", h, self._weights.r))), None


CELLS: dict[str, Callable[..., Cell]] = {"LSTM": Lstm, "GRU": Gru, "RNN": Rnn}


def _ones() -> Array:
    return np.ones((), np.float32)


def split(edit: Edit, prefix: str, x: ir.Value, sizes: Sequence[int], axis: int) -> Sequence[ir.Value]:
    """A value cut along an axis; itself for one part."""
    if len(sizes) == 1:
        return [x]
    edit.prefix = prefix
    if len(set(sizes)) == 1:  # shape inference does not read long lists
        return edit.ops("Split", len(sizes), x, attributes={"axis": axis, "num_outputs": len(sizes)})
    lengths = edit.constant(f"sizes.{len(edit.nodes)}", sizes, np.int64)
    return edit.ops("Split", len(sizes), x, lengths, attributes={"axis": axis})
