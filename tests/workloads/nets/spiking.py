"""One step of a spiking net: the loop over time is the caller's, and what lasts goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tests.workloads.draw import draw

INPUTS, HIDDEN, OUTPUTS = 512, 4096, 1024


class Leaky(nn.Module):
    """Two layers of leaky integrate-and-fire cells (Gerstner and Kistler 2002, section 4.1.1).

    v' = decay v + x W + b - threshold s, s' = 1 where v' > threshold. Input [batch, 512], states v1 and s1
    [batch, 4096], v2 [batch, 1024]; outputs are the membranes of the last layer, bent, and the states.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)
        self.decay = nn.Parameter(torch.full((HIDDEN,), 0.6))

    def forward(
        self, current: torch.Tensor, v1: torch.Tensor, s1: torch.Tensor, v2: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        v1_next = self.decay * v1 + self.first(current) - s1
        s1_next = (v1_next > 1.0).to(v1.dtype)
        v2_next = 0.9 * v2 + self.second(s1_next)
        return torch.tanh(v2_next), v1_next, s1_next, v2_next


@dataclass(frozen=True)
class Cell:
    """The net with what an exporter must know of it."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[str, ...] = ("membrane", "v1_next", "s1_next", "v2_next")
    states: Mapping[str, str] = field(default_factory=lambda: {"v1": "v1_next", "s1": "s1_next", "v2": "v2_next"})


def build() -> Cell:
    """The net, drawn."""
    widths = (INPUTS, HIDDEN, HIDDEN, OUTPUTS)
    return Cell(draw(Leaky(), seed=13), tuple(torch.zeros(2, width) for width in widths))
