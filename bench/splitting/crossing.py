"""What crosses a border, coded as on the wire: in torch, both ways, with the bytes that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wire.activations import Coding

HEADER_BYTES = 64  # of a message, about


def coded(x: Tensor, coding: Coding) -> Tensor:
    """A tensor as it arrives: every row (the last axis) by its own scale, see `wire.activations`."""
    if coding == "float32":
        return x
    most = x.abs().amax(dim=-1, keepdim=True)
    if coding == "float16":
        scales = torch.ldexp(torch.ones_like(most), torch.frexp(most).exponent)
        safe = torch.where(scales > 0, scales, torch.ones_like(scales))
        return (x / safe).half().float() * scales
    scales = most / 127
    safe = torch.where(scales > 0, scales, torch.ones_like(scales))
    return torch.round(x / safe) * scales


class Border(torch.autograd.Function):
    """Activations go up coded, their gradient comes down coded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coding: Coding) -> Tensor:
        """What the tail gets."""
        ctx.coding = coding
        return coded(x, coding)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """What the front gets back."""
        return coded(gradients[0], ctx.coding), None


def row_bytes(width: int, coding: Coding) -> int:
    """Bytes of a row of `width` numbers one way.

    >>> row_bytes(384, "float32"), row_bytes(384, "int8")
    (1536, 388)
    """
    return {"float32": 4 * width, "float16": 2 * width + 4, "int8": width + 4}[coding]
