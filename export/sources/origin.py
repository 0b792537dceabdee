"""Whether weights come from the source: what is not in its files, transformers draws at random and only logs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel


def refuse_invented(model: ir.Model, modules: Mapping[str, str], stored: set[str], source: str) -> None:
    """Every linear layer's weight is in the files of the source, or tied to one that is.

    Args:
        model: a captured graph.
        modules: module path by the name of a linear weight.
        stored: names of the tensors in the files.
        source: for the message.

    Raises:
        UnsupportedModel: naming the first layer that the files do not have.
    """
    ends = {name[start:] for name in stored for start in _starts(name)}
    absent = {name: path for name, path in modules.items() if not _is_stored(path, stored, ends)}
    held = [v for n, v in model.graph.initializers.items() if n in ends and n not in modules] if absent else []
    invented = [path for name, path in absent.items() if not _is_tied(model.graph.initializers[name], held)]
    if invented:
        raise UnsupportedModel(
            f"expected weights for every layer in {source}, found none for {invented[0]} "
            f"({len(invented)} of {len(modules)} layers); is config.json that of another model, or the task another? "
            "A new classifier is made where --labels or --data name classes"
        )


def _is_stored(path: str, stored: set[str], ends: set[str]) -> bool:
    """Files may prefix the path of a module (`bert.`), or lack the prefix that a model with a head has."""
    name = f"{path}.weight"
    return name in ends or name.partition(".")[2] in stored


def _starts(name: str) -> list[int]:
    """Where the parts of a dotted name begin: files may prefix the path of a module (`bert.`, `vit.`)."""
    return [0, *(index + 1 for index, character in enumerate(name) if character == ".")]


def _is_tied(weight: ir.Value, held: list[ir.Value]) -> bool:
    """Whether a matrix is another one of the source, perhaps turned: a language model's head and its embedding."""
    if weight.const_value is None:
        return False
    matrix = weight.const_value.numpy()
    for other in held:
        if other.const_value is None or len(other.const_value.shape) != 2:
            continue
        rows, columns = other.const_value.shape.numpy()
        if matrix.shape == (columns, rows) and np.array_equal(matrix.T, other.const_value.numpy()):
            return True
        if matrix.shape == (rows, columns) and np.array_equal(matrix, other.const_value.numpy()):
            return True
    return False
