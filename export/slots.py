"""Slots: places for adapters beside chosen layers, as graph inputs.

LoRA: Hu et al. 2021, arXiv:2106.09685, section 4.1 (their alpha / r is `scale` here): y = x W + scale ((x A) B).
A [in, r] and B [r, out] have rank-0 default initializers, so that nothing fed is the base model; each slot has
its own symbol for r, so that any ranks can be fed together. Of a convolution W is the matrix [C kh kw, out], see
`export.convs`.

Bias: Ben Zaken et al. 2021, arXiv:2106.10199 (BitFit): y + delta, delta [out], zero by default; per channel of a
convolution.

Beside a linear layer the slot is written in 2-D (x as rows): no tensor that carries the rank is ever reshaped,
and all of its gradients are plain 2-D products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from console.errors import UnsupportedModel, UsageError, join
from export.convs import Convolution, change_of, normalization
from export.edit import Edit, add_input, redirect
from export.gradient.path import leading_to
from export.targets import Layer, choose

KINDS = ("lora", "bias")


@dataclass(frozen=True)
class SlotSite:
    """A slot in a graph: its module, its sizes, and the names of its graph inputs.

    `a`, `b` and `scale` are those of kind `lora`, `bias` that of kind `bias`; the others are empty. `window` and
    `groups` are a convolution's: channels per group and kernel, whose product is `features_in`. `weight` is what the
    layer's weight is called before the graph is frozen.
    """

    name: str
    module: str
    features_in: int
    features_out: int
    a: str = ""
    b: str = ""
    scale: str = ""
    kind: Literal["lora", "bias"] = "lora"
    bias: str = ""
    window: tuple[int, ...] = ()
    groups: int = 1
    weight: str = ""


def insert_slots(model: ir.Model, targets: str, kinds: Sequence[str] = ("lora",), toward: str = "") -> list[SlotSite]:
    """Put slots beside every chosen layer, in place.

    Args:
        model: a captured graph, before its dimensions are fixed.
        targets: "auto", "all-linear", or a regular expression that is searched in module paths; see
            `export.targets`.
        kinds: which kinds each chosen layer gets, of `lora` and `bias`.
        toward: an output; layers from which no gradient of it comes back, as those before a threshold, get none.

    Returns:
        The slots in the order of the graph, kind by kind at each layer. A module that runs several times has one
        slot of a kind, used at each.

    Raises:
        UnsupportedModel: nothing is chosen, or nothing of it gets a gradient; the message names modules.
        UsageError: no kind, or an unknown one.
    """
    if not kinds or set(kinds) - set(KINDS):
        raise UsageError(f"expected adapter kinds of {', '.join(KINDS)}, found {', '.join(kinds) or 'none'}")
    by_weight: dict[str, list[Layer]] = {}
    chosen = choose(model, targets)
    if toward:
        chosen = _learning(model.graph, chosen, toward)
    NameFixPass()(model)  # new names begin with those of the nodes, which files may leave out or use twice
    for layer in chosen:
        by_weight.setdefault(str(layer.weight.name), []).append(layer)
    sites: list[SlotSite] = []
    taken: set[str] = set()
    for number, shared in enumerate(by_weight.values()):
        name = _free(shared[0].module, taken)
        sites += [_INSERT[kind](model.graph, shared, name, number) for kind in KINDS if kind in kinds]
    return sites


def _learning(graph: ir.Graph, chosen: Sequence[Layer], toward: str) -> list[Layer]:
    """Those layers that a gradient of an output reaches.

    Raises:
        UnsupportedModel: none.
    """
    output = next(value for value in graph.outputs if value.name == toward)
    leading = leading_to(graph, output)
    found = [layer for layer in chosen if layer.node.outputs[0] in leading]
    if not found:
        modules = join(list(dict.fromkeys(layer.module for layer in chosen)), 8)
        raise UnsupportedModel(
            f"expected layers from which a gradient of {toward} comes back, found none among {modules}: what lies "
            "between goes in steps; choose other --adapter-targets, or export with --mode train-forward"
        )
    return found


def _free(module: str, taken: set[str]) -> str:
    """A slot's name: the module, and a number where a module has several weights."""
    name, number = module, 1
    while name in taken:
        name, number = f"{module}:{number}", number + 1
    taken.add(name)
    return name


def _lora(graph: ir.Graph, shared: Sequence[Layer], name: str, number: int) -> SlotSite:
    site = _site(name, shared[0], "lora", a=f"slot.{name}.A", b=f"slot.{name}.B", scale=f"slot.{name}.scale")
    rows, columns, symbol = site.features_in, site.features_out, f"r_{number}"
    a = add_input(graph, site.a, np.zeros((rows, 0), np.float32), [rows, symbol])
    b = add_input(graph, site.b, np.zeros((0, columns), np.float32), [symbol, columns])
    scale = add_input(graph, site.scale, np.ones((), np.float32), [])
    for layer in shared:
        _beside(graph, layer, "slot", partial(_product, layer, (a, b, scale)))
    return site


def _bias(graph: ir.Graph, shared: Sequence[Layer], name: str, number: int) -> SlotSite:
    site = _site(name, shared[0], "bias", bias=f"slot.{name}.bias")
    delta = add_input(graph, site.bias, np.zeros(site.features_out, np.float32), [site.features_out])
    for layer in shared:
        _beside(graph, layer, "bias", partial(_offset, layer, delta))
    return site


_INSERT = {"lora": _lora, "bias": _bias}


def _site(name: str, layer: Layer, kind: Literal["lora", "bias"], **inputs: str) -> SlotSite:
    window, groups = (layer.window, layer.groups) if isinstance(layer, Convolution) else ((), 1)
    inputs["weight"] = str(layer.weight.name)
    return SlotSite(
        name, layer.module, layer.features_in, layer.features_out, kind=kind, window=window, groups=groups, **inputs
    )


Change = Callable[[Edit, ir.Value, np.ndarray | None], ir.Value]


def _beside(graph: ir.Graph, layer: Layer, what: str, change: Change) -> None:
    """Add a change to what a layer makes; everything that read its output reads the sum."""
    node, factor = layer.node, None
    behind = normalization(layer) if isinstance(layer, Convolution) else None
    if behind is not None:
        node, factor = behind
    base = node.outputs[0]
    edit = Edit(graph, f"{layer.node.name}/{what}")
    total = edit.op("Add", base, change(edit, base, factor))
    redirect(base, total, keep=edit.nodes)
    edit.put_after(node)


def _product(
    layer: Layer,
    inputs: tuple[ir.Value, ir.Value, ir.Value],
    edit: Edit,
    base: ir.Value,
    factor: np.ndarray | None,
) -> ir.Value:
    """scale ((x A) B), with x as rows of a linear layer."""
    if isinstance(layer, Convolution):
        return change_of(edit, layer, base, inputs, factor)
    (a, b, scale), rows = inputs, layer.node.inputs[0]
    in_rows = layer.node.op_type == "Gemm"
    if not in_rows:
        rows = edit.op("Reshape", rows, edit.constant("rows", [-1, layer.features_in], np.int64))
    elif layer.node.attributes.get_int("transA", 0):
        rows = edit.op("Transpose", rows, attributes={"perm": [1, 0]})
    # the scale multiplies what is narrow: a tensor of r columns, not of `out`
    change = edit.op("MatMul", edit.op("Mul", edit.op("MatMul", rows, a), scale), b)
    return change if in_rows else edit.op("Reshape", change, edit.op("Shape", base))


def _offset(layer: Layer, delta: ir.Value, edit: Edit, base: ir.Value, factor: np.ndarray | None) -> ir.Value:
    """The change of a bias, as a row, or as channels of a convolution."""
    if not isinstance(layer, Convolution):
        return delta
    if factor is not None:
        delta = edit.op("Mul", delta, edit.constant("factor", factor))
    spread = [1, layer.features_out, *[1] * (len(layer.window) - 1)]
    return edit.op("Reshape", delta, edit.constant("channels", spread, np.int64))
