"""Slots: beside a chosen linear layer, y = x W + scale ((x A) B), with A, B and scale as graph inputs.

LoRA: Hu et al. 2021, arXiv:2106.09685, section 4.1 (their alpha / r is `scale` here). A [in, r] and
B [r, out] have rank-0 default initializers, so that nothing fed is the base model; each slot has its own
symbol for r, so that any ranks can be fed together.

The slot is written in 2-D (x as rows): no tensor that carries the rank is ever reshaped, and all of its
gradients are plain 2-D products.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, add_input, redirect
from export.linears import Linear, linears

# the names that query and value projections have in BERT, ViT, DistilBERT, CLIP, MPNet and their like
QUERY_VALUE = re.compile(r"(?:^|\.)(?:query|value|q_proj|v_proj|q_lin|v_lin|q|v)$")
SHOWN = 6


@dataclass(frozen=True)
class SlotSite:
    """A slot in a graph: its module, its sizes, and the names of its three graph inputs."""

    name: str
    module: str
    features_in: int
    features_out: int
    a: str
    b: str
    scale: str


def insert_slots(model: ir.Model, targets: str) -> list[SlotSite]:
    """Put a slot beside every chosen linear layer, in place.

    Args:
        model: a captured graph, before its dimensions are fixed.
        targets: "auto" (query and value projections of the upper half of the blocks), "all-linear" (every
            linear layer inside blocks), or a regular expression that is searched in module paths.

    Returns:
        The slots in the order of the graph. A module that runs several times has one slot, used at each.

    Raises:
        UnsupportedModel: nothing is chosen; the message names modules that could be.
    """
    chosen = choose(linears(model), targets)
    by_weight: dict[str, list[Linear]] = {}
    for linear in chosen:
        by_weight.setdefault(str(linear.weight.name), []).append(linear)
    sites = []
    for number, shared in enumerate(by_weight.values()):
        site = _site(shared[0])
        inputs = _inputs(model.graph, site, symbol=f"r_{number}")
        for linear in shared:
            _beside(model.graph, linear, inputs)
        sites.append(site)
    return sites


def choose(found: list[Linear], targets: str) -> list[Linear]:
    """Which of the linear layers get a slot; see `insert_slots`.

    Raises:
        UnsupportedModel: none, or the expression is not one.
    """
    inside = [linear for linear in found if linear.block is not None]
    if targets == "auto":
        numbers = sorted({linear.block for linear in inside if linear.block is not None})
        upper = set(numbers[len(numbers) // 2 :])
        chosen = [linear for linear in inside if linear.block in upper and QUERY_VALUE.search(linear.module)]
    elif targets == "all-linear":
        chosen = inside
    else:
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise UnsupportedModel(
                f"expected auto, all-linear or a regular expression as targets, found {targets!r} ({error})"
            ) from error
        chosen = [linear for linear in found if pattern.search(linear.module)]
    if not chosen:
        modules = list(dict.fromkeys(linear.module for linear in found if linear.module))
        there = ", ".join(modules[:SHOWN]) + (f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else "")
        raise UnsupportedModel(
            f"expected linear layers that match the targets {targets!r}, found none; there are {there or 'none at all'}"
        )
    return chosen


def _site(linear: Linear) -> SlotSite:
    name = linear.module
    inputs = (f"slot.{name}.A", f"slot.{name}.B", f"slot.{name}.scale")
    return SlotSite(name, linear.module, linear.features_in, linear.features_out, *inputs)


def _inputs(graph: ir.Graph, site: SlotSite, symbol: str) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The three graph inputs of a slot, each with its default."""
    a = add_input(graph, site.a, np.zeros((site.features_in, 0), np.float32), [site.features_in, symbol])
    b = add_input(graph, site.b, np.zeros((0, site.features_out), np.float32), [symbol, site.features_out])
    scale = add_input(graph, site.scale, np.ones((), np.float32), [])
    return a, b, scale


def _beside(graph: ir.Graph, linear: Linear, inputs: tuple[ir.Value, ir.Value, ir.Value]) -> None:
    """Add scale ((x A) B) to what the node makes; everything that read its output reads the sum.

    The scale multiplies x A, which is narrow: the same product for a tensor of r columns, not of `out`.
    """
    node, base, x = linear.node, linear.node.outputs[0], linear.node.inputs[0]
    a, b, scale = inputs
    edit = Edit(graph, f"{node.name or linear.module}/slot")
    rows = x
    if node.op_type == "MatMul":
        rows = edit.op("Reshape", x, edit.constant("rows", [-1, linear.features_in], np.int64))
    elif node.attributes.get_int("transA", 0):
        rows = edit.op("Transpose", x, attributes={"perm": [1, 0]})
    change = edit.op("MatMul", edit.op("Mul", edit.op("MatMul", rows, a), scale), b)
    if node.op_type == "MatMul":
        change = edit.op("Reshape", change, edit.op("Shape", base))
    total = edit.op("Add", base, change)
    redirect(base, total, keep=edit.nodes)
    edit.put_after(node)
