"""Which module of the source a node came from, as far as exporters and rewriters left traces of it."""

from __future__ import annotations

import re
from collections.abc import Collection

import onnx_ir as ir

from export.values import is_weight

SCOPES = "pkg.torch.onnx.name_scopes"


def module_of(node: ir.Node) -> str:
    """The path of the module that a node came from, with dots; empty where nothing tells."""
    scopes = [scope for scope in re.findall(r"'([^']*)'", node.metadata_props.get(SCOPES, ""))[:-1] if scope]
    if scopes:
        return str(scopes[-1])
    # a node that a rewriter made has a name of its own, but makes the value that the exporter named
    for name in (node.name, *(value.name for value in node.outputs)):
        parts = [part for part in (name or "").split("/") if part]
        if len(parts) > 1:
            return ".".join(parts[:-1])
    for value in weights_of(node):
        module = "" if "/" in (value.name or "") else (value.name or "").rpartition(".")[0]
        if module:
            return module
    return ""


def prefix(path: str, level: int, parents: Collection[str] = ()) -> str:
    """A module path down to its `level`-th number; without a number its first part, or two below a parent.

    Args:
        path: with dots.
        level: from 1.
        parents: first parts that have numbered modules beneath them.

    >>> prefix("encoder.layer.0.attention.self", 1), prefix("stages.1.blocks.0.conv", 2), prefix("head.norm", 1)
    ('encoder.layer.0', 'stages.1.blocks.0', 'head')
    >>> prefix("model.norm.weight", 1, {"model"})
    'model.norm'
    """
    parts = path.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return ".".join(parts[: 2 if parts[0] in parents else 1])
    return ".".join(parts[: numbers[min(level, len(numbers)) - 1] + 1])


def weights_of(node: ir.Node) -> list[ir.Value]:
    """The weights that a node reads itself."""
    return [value for value in node.inputs if value is not None and is_weight(value)]
