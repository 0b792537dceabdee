"""Nodes named after the modules that they came from, whoever exported them.

torch's older exporter names nodes `/encoder/layer.0/query/MatMul`; the newer one numbers them and writes the path
into metadata. The rest of the exporter reads the first form (`export.linears.module_path`).
"""

from __future__ import annotations

import ast

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"


def name_after_modules(model: ir.Model) -> int:
    """Rename nodes in place; how many were renamed."""
    taken: dict[str, int] = {}
    renamed = 0
    for node in model.graph:
        path = _module(node.metadata_props.get(SCOPES, ""))
        if not path:
            continue
        name = f"/{_slashed(path)}/{node.op_type}"
        number = taken[name] = taken.get(name, -1) + 1
        node.name = f"{name}_{number}" if number else name
        renamed += 1
    return renamed


def _module(text: str) -> str:
    """The innermost module of a list of scopes; the last entry is the node itself.

    >>> _module("['', 'encoder', 'encoder.layer.0', 'linear_1']")
    'encoder.layer.0'
    """
    try:
        scopes = ast.literal_eval(text) if 0 < len(text) < 10_000 else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    named = isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
    path = scopes[-2] if named and len(scopes) > 1 else ""
    return "" if path.startswith("_empty_nn_module_stack") else path  # what a pass of the exporter added


def _slashed(path: str) -> str:
    """A module path as torch's older exporter writes it: numbers stay with the list that they are of.

    >>> _slashed("encoder.layer.0.attention.query")
    'encoder/layer.0/attention/query'
    """
    out = ""
    for part in path.split("."):
        out += part if not out else f".{part}" if part.isdigit() else f"/{part}"
    return out
