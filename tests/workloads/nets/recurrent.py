"""A sequence to scores: two LSTM layers both ways, the last step of each direction, and two linear layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from tests.workloads.draw import draw

STEPS, INPUTS, HIDDEN, FEATURES = 6, 16, 48, 32


class Sequences(nn.Module):
    """Sequences [batch, 6, 16] to features [batch, 32]."""

    example_inputs: ClassVar[dict[str, torch.Tensor]] = {"sequence": torch.zeros(2, STEPS, INPUTS)}

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, FEATURES)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(sequence)
        _, last = self.gru(steps)
        out: torch.Tensor = torch.tanh(self.out(last[0]))
        return out


def build() -> nn.Module:
    """The net, drawn."""
    return draw(Sequences(), seed=16)
