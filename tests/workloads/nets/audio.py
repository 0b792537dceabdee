"""A sound classifier whose graph begins at the samples: log-mel in float32, then a convolutional net.

The front end is that of PANNs (Kong et al. 2020, section III): frames by a strided convolution with a windowed
Fourier basis, power, mel bands, logarithm. Small powers under a logarithm are why it stays in float32.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from tests.workloads.draw import draw

RATE, WINDOW, HOP, MELS = 16000, 512, 160, 48
SAMPLES = 16000


class LogMel(nn.Module):
    """Samples [batch, n] to log-mel [batch, 1, frames, mels]; fixed numbers, nothing to learn."""

    basis: torch.Tensor
    mel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        time, bins = torch.arange(WINDOW), torch.arange(WINDOW // 2 + 1)
        angle = 2 * math.pi * bins[:, None] * time[None] / WINDOW
        window = torch.hann_window(WINDOW)
        self.register_buffer("basis", torch.cat((torch.cos(angle) * window, -torch.sin(angle) * window))[:, None])
        self.register_buffer("mel", mel_bands())

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = nn.functional.conv1d(samples[:, None], self.basis, stride=HOP, padding=WINDOW // 2)
        real, imaginary = spectrum.chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2)
        return torch.log(power @ self.mel + 1e-6)[:, None]


def mel_bands() -> torch.Tensor:
    """Triangles at even distances on the mel scale: [bins, mels]."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


def _block(inner: int, outer: int) -> nn.Module:
    """Two convolutions of 3 x 3 and a mean over 2 x 2."""
    layers: list[nn.Module] = []
    for width in (inner, outer):
        layers += [nn.Conv2d(width, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2))


class Sounds(nn.Module):
    """Samples [batch, 16000] to scores [batch, 10]: mean plus maximum over time, as PANNs pool."""

    example_inputs: ClassVar[dict[str, torch.Tensor]] = {"samples": torch.zeros(2, SAMPLES)}
    sampling_rate = RATE

    def __init__(self) -> None:
        super().__init__()
        self.front = LogMel()
        self.bands = nn.BatchNorm2d(MELS)
        widths = (1, 64, 128, 256, 512)
        self.blocks = nn.ModuleList(_block(i, o) for i, o in pairwise(widths))
        self.inner, self.scores = nn.Linear(widths[-1], 512), nn.Linear(512, 10)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        x = self.bands(self.front(samples).transpose(1, 3)).transpose(1, 3)
        for block in self.blocks:
            x = block(x)
        x = x.mean(dim=3)
        x = x.amax(dim=2) + x.mean(dim=2)
        return torch.sigmoid(self.scores(torch.relu(self.inner(x))))


def build() -> nn.Module:
    """The net, drawn; the front end is what it is."""
    return draw(Sounds(), seed=12)
