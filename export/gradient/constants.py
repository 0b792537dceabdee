"""Which values of a graph cannot change between two runs, and what they hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

# Larger tensors are weights: no rule needs their content, and reading one would map its file.
LARGEST_CONSTANT = 4096


def is_constant(value: ir.Value) -> bool:
    """Whether `value` is an initializer that no caller can feed, or the output of a Constant node.

    An initializer that is also a graph input is a default (an adapter of rank 0), not a constant.
    """
    if value.is_graph_input():
        return False
    if value.is_initializer():
        return True
    node = value.producer()
    return node is not None and node.op_type == "Constant" and node.domain == ""


def constant_array(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The content of a small constant; None for anything else."""
    if value is None or not is_constant(value):
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or math.prod(tensor.shape.numpy()) > LARGEST_CONSTANT:
        return None
    return np.asarray(tensor.numpy())


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """The content of a small integer constant as a flat list; None for anything else."""
    array = constant_array(value)
    return None if array is None else [int(number) for number in array.reshape(-1)]
