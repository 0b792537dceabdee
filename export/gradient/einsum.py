"""The rule of Einsum."""

from __future__ import annotations

from functools import partial
from string import ascii_letters

import onnx_ir as ir

from export.gradient.dims import Dim, Dims, dims_of, dtype_of, fixed
from export.gradient.present import present
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape


def _terms(node: ir.Node) -> tuple[list[str], str]:
    """The labels of the inputs and of the output, one letter per axis: an ellipsis becomes letters of its own."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    shapes = [dims_of(present(value)) for value in node.inputs]
    extra = max([len(dims) - len(term) + 3 for dims, term in zip(shapes, terms, strict=True) if "." in term], default=0)
    many = "".join(free[:extra])
    if not arrow:
        once = sorted(x for x in set(left) if x.isalpha() and left.count(x) == 1)
        right = ("..." if extra else "") + "".join(once)
    full = []
    for dims, term in zip(shapes, terms, strict=True):
        own = len(dims) - len(term) + 3
        full.append(term.replace("...", many[extra - own :] if own else ""))
    return full, right.replace("...", many)


def _problem(node: ir.Node) -> str | None:
    terms, _ = _terms(node)
    return (
        "a label stands twice in one input" if any(len(set(term)) < len(term) for term in terms) else cuts_a_rank(node)
    )


@rule("Einsum", check=_problem)
def einsum(t: Tape, c: Call) -> Products:
    """`y[o] = sum a[i] b[j] ...`: da[i] = sum g[o] b[j] ..., repeated along labels that are in a only."""
    terms, result = _terms(c.node)
    sizes: dict[str, Dim] = {}
    for i, term in enumerate(terms):
        for label, dim in zip(term, dims_of(c.input(i)), strict=True):
            sizes[label] = dim if sizes.get(label, 1) == 1 else sizes[label]
    return {i: partial(_product, t, c, terms, result, sizes, i) for i in range(len(terms))}


def _product(t: Tape, c: Call, terms: list[str], result: str, sizes: dict[str, Dim], position: int) -> ir.Value:
    own = terms[position]
    values = [c.g, *(c.input(i) for i in range(len(terms)) if i != position)]
    labels = [result, *(term for i, term in enumerate(terms) if i != position)]
    known = "".join(label for label in own if any(label in other for other in labels))
    dims: Dims = tuple(sizes[label] for label in known)
    attributes = {"equation": ",".join(labels) + "->" + known}
    made = t.emit("Einsum", values, dims, dtype_of(c.g), attributes)
    lone = [i for i, label in enumerate(own) if label not in known]
    if lone:
        whole = tuple(sizes[label] for label in own)
        target = t.ints([fixed(dim) for dim in whole])
        made = t.emit("Expand", [t.unsqueeze(made, lone), target], whole, dtype_of(made))
    return t.red(made, c.input(position))
