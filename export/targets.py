"""Which layers get a slot: by name, all of a sort, or what is usual for the architecture.

`auto` goes by what there is, not by a list of model names:

* attention: the query and value projections of the upper half of the blocks (LoRA, Hu et al. 2021,
  arXiv:2106.09685, section 4.2 adapts these two), or where one matrix makes query, key and value, that one.
  BERT, ViT, Swin (`query`, `value`), DistilBERT (`q_lin`), T5 (`q`), Llama, Qwen, Mistral, CLIP (`q_proj`), GPT-2
  (`c_attn`), GPT-NeoX and BLOOM (`query_key_value`), timm (`qkv`).
* no attention but convolutions: the last third of the ungrouped convolutions and the blocks' linear layers, where
  features are the task's own (ResNet, MobileNet, UNet, ConvNeXt).
* neither (recurrent nets, MLPs, GraphSAGE): every linear layer.

`every-block` is the same without "upper half" and "last third": for boards that hold the front of a model only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import onnx_ir as ir

from console.errors import UnsupportedModel
from export.control import held
from export.convs import Convolution, convolutions
from export.linears import Linear, linears

Layer: TypeAlias = Linear | Convolution

QUERY_VALUE = re.compile(r"(?:^|[._])(?:query|value|q_proj|v_proj|q_lin|v_lin|q|v)$")
FUSED = re.compile(r"(?:^|\.)(?:c_attn|query_key_value|qkv|qkv_proj|Wqkv|in_proj)$")
RECURRENT = ("LSTM", "GRU", "RNN")
SHOWN = 6
AUTO, EVERY_BLOCK = "auto", "every-block"


def layers(model: ir.Model) -> list[Layer]:
    """Every layer that can have a slot, in file order."""
    at = {node: index for index, node in enumerate(model.graph)}
    found: list[Layer] = [*linears(model), *convolutions(model)]
    return sorted(found, key=lambda layer: at[layer.node])


def choose(model: ir.Model, targets: str) -> list[Layer]:
    """Which layers get a slot.

    Args:
        model: a captured graph.
        targets: "auto" or "every-block"; "all-linear" (every linear layer inside blocks, or every one where there are
            no blocks); or a regular expression that is searched in module paths, of convolutions too.

    Raises:
        UnsupportedModel: none, or the expression is not one; the message names what could be chosen.
    """
    found = layers(model)
    if targets in {AUTO, EVERY_BLOCK}:
        chosen = automatic(found, everywhere=targets == EVERY_BLOCK)
    elif targets == "all-linear":
        chosen = all_linear(found)
    else:
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise UnsupportedModel(
                f"expected auto, every-block, all-linear or a regular expression as targets, found {targets!r} "
                f"({error})"
            ) from error
        chosen = [layer for layer in found if pattern.search(layer.module)]
    if not chosen:
        raise UnsupportedModel(
            f"expected layers that match the targets {targets!r}, found none; there are {_there(model, found)}"
        )
    return chosen


def automatic(found: Sequence[Layer], *, everywhere: bool = False) -> list[Layer]:
    """What `auto` chooses of the layers of a model; or `every-block`, `everywhere`."""
    blocks = [layer for layer in found if layer.block is not None]
    blocks = blocks if everywhere else _upper(blocks)
    for pattern in (QUERY_VALUE, FUSED):
        chosen = [layer for layer in blocks if pattern.search(layer.module)]
        if chosen:
            return chosen
    if any(isinstance(layer, Convolution) and layer.groups == 1 for layer in found):
        dense = [layer for layer in found if _is_dense(layer)]
        return dense if everywhere else dense[-max(1, len(dense) // 3) :]
    return all_linear(found)


def all_linear(found: Sequence[Layer]) -> list[Layer]:
    """The linear layers of the blocks, or all where there are no blocks."""
    linear: list[Layer] = [layer for layer in found if isinstance(layer, Linear)]
    return [layer for layer in linear if layer.block is not None] or linear


def _is_dense(layer: Layer) -> bool:
    """An ungrouped convolution, or a linear layer of a block: a classifier at the end is neither."""
    return layer.groups == 1 if isinstance(layer, Convolution) else layer.block is not None


def _upper(inside: Sequence[Layer]) -> list[Layer]:
    """Those of the upper half of the blocks."""
    numbers = sorted({layer.block for layer in inside if layer.block is not None})
    upper = set(numbers[len(numbers) // 2 :])
    return [layer for layer in inside if layer.block in upper]


def _there(model: ir.Model, found: Sequence[Layer]) -> str:
    """What could have been chosen, in words."""
    modules = list(dict.fromkeys(layer.module for layer in found))
    if modules:
        return ", ".join(modules[:SHOWN]) + (f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else "")
    outside = held(model.graph)
    if outside:
        return f"none outside {' and '.join(outside)}, inside which no layer takes an adapter"
    recurrent = Counter(node.op_type for node in model.graph if node.op_type in RECURRENT)
    inside = ", ".join(f"{count} {op_type}" for op_type, count in recurrent.items())
    return f"{inside}, whose weights take no adapter" if inside else "none at all"
