"""A UNet: three levels of skip connections that stay open from one side of the net to the other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from tests.workloads.draw import draw

CHANNELS = (64, 128, 256, 384)
SIZE = 32


class Block(nn.Module):
    """Two convolutions of 3 x 3, each with batch normalization and ReLU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inner, outer):
            layers += [nn.Conv2d(width, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class UNet(nn.Module):
    """Pictures [batch, 3, H, W] to scores [batch, 5, H, W]; H and W are multiples of 8."""

    example_inputs: ClassVar[dict[str, torch.Tensor]] = {"picture": torch.zeros(2, 3, SIZE, SIZE)}

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(Block(i, o) for i, o in zip((3, *CHANNELS), CHANNELS, strict=False))
        pairs = list(zip(CHANNELS[::-1], CHANNELS[-2::-1], strict=False))
        # one level is widened by interpolation, the others by a learned kernel: both occur in the field
        self.widen = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(i, o, 1))
            if level == 0
            else nn.ConvTranspose2d(i, o, 2, stride=2)
            for level, (i, o) in enumerate(pairs)
        )
        self.up = nn.ModuleList(Block(2 * o, o) for _, o in pairs)
        self.scores = nn.Conv2d(CHANNELS[0], 5, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x, skips = picture, []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for widen, block, skip in zip(self.widen, self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat((widen(x), skip), dim=1))
        out: torch.Tensor = self.scores(x)
        return out


def build() -> nn.Module:
    """The net, drawn."""
    return draw(UNet(), seed=11)
