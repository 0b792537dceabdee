"""One step of a spiking net: the loop over time is the caller's, and what lasts goes in and comes out."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from tests.workloads.draw import draw

INPUTS, HIDDEN, OUTPUTS = 24, 64, 10


class Leaky(nn.Module):
    """Two layers of leaky integrate-and-fire cells (Gerstner and Kistler 2002, section 4.1.1).

    v' = decay v + x W + b - threshold s, s' = 1 where v' > threshold. Input [batch, 24], states v1, v2
    [batch, 64] and [batch, 10]; the output is the rate of the last layer's spikes and their membranes.
    """

    example_inputs: ClassVar[dict[str, torch.Tensor]] = {
        "current": torch.zeros(2, INPUTS),
        "v1": torch.zeros(2, HIDDEN),
        "s1": torch.zeros(2, HIDDEN),
        "v2": torch.zeros(2, OUTPUTS),
    }
    output_names = ("membrane", "v1_next", "s1_next", "v2_next")
    states: ClassVar[dict[str, str]] = {"v1": "v1_next", "s1": "s1_next", "v2": "v2_next"}

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


def build() -> nn.Module:
    """The net, drawn."""
    return draw(Leaky(), seed=13)
