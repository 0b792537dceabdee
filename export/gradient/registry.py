"""The table of gradient rules: one entry per operator.

A rule gets the tape and one *call* of its operator and returns, per input, a function that emits the
gradient of that input. The sweep calls only the functions of wanted inputs, so an unwanted product is
never emitted. In the docstrings of rules `g` is the cotangent of the output, `red(t, a)` is the sum of
`t` to the shape of `a`, and `sum`/`mean` keep their axes as ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from export.gradient.dims import dims_of, shape_of
from export.gradient.present import present
from export.gradient.tape import Tape

Products = Mapping[int, Callable[[], ir.Value]]

# Constant almost everywhere or not of floating type: a path ends here, with gradient zero.
STOPS = frozenset(
    {
        *("Shape", "Size", "IsNaN", "IsInf", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        *("And", "Or", "Not", "Xor", "Range", "ConstantOfShape", "ArgMax", "ArgMin", "OneHot", "NonZero"),
        *("Floor", "Ceil", "Round", "Sign"),
    }
)


@dataclass(frozen=True)
class Call:
    """One node on the path, with the cotangents of its outputs (None where nothing came back)."""

    node: ir.Node
    cotangents: tuple[ir.Value | None, ...]
    wanted: frozenset[int]

    @property
    def g(self) -> ir.Value:
        """The cotangent of the first output."""
        return present(self.cotangents[0])

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, index: int) -> ir.Value:
        """An input that the operator requires."""
        return present(self.node.inputs[index])

    def optional(self, index: int) -> ir.Value | None:
        """An input that may be left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def int(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.attributes[name].as_int() if name in self.node.attributes else default

    def float(self, name: str, default: float) -> float:
        """A float attribute."""
        return self.node.attributes[name].as_float() if name in self.node.attributes else default


Rule = Callable[[Tape, Call], Products]
Check = Callable[[ir.Node], str | None]


@dataclass(frozen=True)
class Entry:
    """A rule, the inputs that it can differentiate (None: all) and what it cannot do.

    `check` says why a node of this operator has no gradient, or None. `every_output`: the rule reads the
    cotangents of all outputs; otherwise only the first output may lie on the path.
    """

    products: Rule
    inputs: frozenset[int] | None
    check: Check | None
    every_output: bool


_RULES: dict[tuple[str, str], Entry] = {}


def rule(
    *op_types: str,
    domain: str = "",
    inputs: Sequence[int] | None = None,
    check: Check | None = None,
    every_output: bool = False,
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of `op_types`."""

    def register(products: Rule) -> Rule:
        for op_type in op_types:
            accepted = None if inputs is None else frozenset(inputs)
            _RULES[domain, op_type] = Entry(products, accepted, check, every_output)
        return products

    return register


def cuts_a_rank(node: ir.Node) -> str | None:
    """A check: the operator moves elements about, and a dimension whose size is not known cannot be."""
    values = (*node.inputs, *node.outputs)
    known = [dims_of(value) for value in values if value is not None and shape_of(value) is not None]
    return "it cuts an adapter rank" if any(isinstance(dim, str) for dims in known for dim in dims) else None


def find(node: ir.Node) -> Entry | None:
    """The entry for the operator of `node`, or None."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return _RULES.get((domain, node.op_type))


def registered(name: str) -> Entry:
    """The entry of an operator by its name in `operators`."""
    domain, _, op_type = name.rpartition("::")
    return _RULES[domain, op_type]


def operators() -> list[str]:
    """The operators that have a rule, as `domain::name`, sorted."""
    return sorted(f"{domain}::{op_type}" if domain else op_type for domain, op_type in _RULES)
