"""What the weights of a model take in each format, by the stretches that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from export.formats.format import Format
from export.formats.grid import Grid
from export.formats.layout import Layout
from export.formats.rewrite import Formats, asked_for, decide, weights_of
from export.gemm import split_gemm
from export.gradient.dims import dims_of
from export.values import is_weight, reads, value_bytes

MULTIPLY = frozenset({"MatMul", "FusedMatMul", "Conv", "ConvTranspose"})


@dataclass(frozen=True)
class Stored:
    """How a weight is stored.

    Attributes:
        bytes: what it takes.
        restored: whether products have it as float32 for a while.
        packed: bytes of the copy that products read instead, 0 where they read what is stored.
        format: its name.
    """

    bytes: int
    restored: bool = False
    packed: int = 0
    format: str = "fp32"

    def shared(self, multiplied: bool) -> int:
        """What a unit needs less if another one of its segment reads the same weight."""
        return self.bytes - (self.packed if multiplied else 0)


def readers_of(graph: ir.Graph, unit_of: Mapping[ir.Node, int]) -> dict[ir.Value, set[int]]:
    """The units that read each weight."""
    readers: dict[ir.Value, set[int]] = {}
    for node in graph:
        for value in reads(node):
            if is_weight(value):
                readers.setdefault(value, set()).add(unit_of[node])
    return readers


def products_of(graph: ir.Graph, unit_of: Mapping[ir.Node, int]) -> dict[ir.Value, set[int]]:
    """The units in which each weight is multiplied by."""
    out: dict[ir.Value, set[int]] = {}
    for node in graph:
        if node.op_type in MULTIPLY and len(node.inputs) > 1 and node.inputs[1] is not None:
            out.setdefault(node.inputs[1], set()).add(unit_of[node])
    return {value: units for value, units in out.items() if is_weight(value)}


def shape_words(weight: ir.Value) -> str:
    """The shape of a weight in words."""
    return " x ".join(map(str, dims_of(weight)))


def weights_by_unit(
    readers: Mapping[ir.Value, set[int]],
    products: Mapping[ir.Value, set[int]],
    after: Mapping[str, Mapping[str, Stored]],
    count: int,
) -> tuple[list[dict[str, int]], list[dict[str, dict[str, int]]], list[dict[str, dict[str, int]]]]:
    """Weight bytes by format, dequantized bytes by format and shape, and tied weights by name, per unit.

    A weight that several units read counts in each, and is named as tied in each.
    """
    sizes: list[dict[str, int]] = [dict.fromkeys(after, 0) for _ in range(count)]
    dequantized: list[dict[str, dict[str, int]]] = [{key: {} for key in after} for _ in range(count)]
    tied: list[dict[str, dict[str, int]]] = [{} for _ in range(count)]
    for weight, units in readers.items():
        plain = Stored(value_bytes(weight))
        kept = {key: known.get(weight.name or "", plain) for key, known in after.items()}
        for unit in units:
            for key, one in kept.items():
                sizes[unit][key] += one.bytes
                if one.restored and unit in products.get(weight, ()):
                    dequantized[unit][key][shape_words(weight)] = plain.bytes
            if len(units) > 1:
                multiplied = unit in products.get(weight, ())
                tied[unit][str(weight.name)] = {key: one.shared(multiplied) for key, one in kept.items()}
    return sizes, dequantized, tied


def stored(model: ir.Model, formats: Formats, grid: Grid, mode: str) -> dict[str, Stored]:
    """How every weight of two dimensions or more would be stored, by name, without quantizing any."""
    if formats != "fp32":
        model = model.clone()
        split_gemm(model)
    out = {}
    for weight in weights_of(model):
        found, _ = decide(weight, asked_for(weight, formats), grid)
        if found is None or weight.layout is None:
            out[weight.name] = Stored(weight.nbytes)
        else:
            out[weight.name] = stored_as(found, weight.layout, grid, mode)
    return out


def stored_as(fmt: Format, layout: Layout, grid: Grid, mode: str) -> Stored:
    """A weight in a format: products restore it to float32, or pack it where it has 4 bits and nothing goes back."""
    packs = fmt.name == "int4" and mode != "train"
    packed = layout.rows * layout.columns // 2 if packs else 0
    return Stored(fmt.stored_bytes(layout, grid), not packs, packed, fmt.name)
