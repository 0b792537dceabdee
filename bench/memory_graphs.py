"""Models that judge the memory model: random weights, at least 40 MiB above the runtime's base when they run.

Nothing in `devices/memory.toml` was measured on them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from export.fold import freeze
from export.gradient.present import present
from export.quiet import quiet

Feeds = dict[str, np.ndarray]


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch normalization beside a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer))
        self.short = nn.Conv2d(inner, outer, 1, stride) if stride > 1 or inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, channels, height, width]."""
        return torch.relu(self.two(self.one(x)) + self.short(x))


class ResNet(nn.Module):
    """A stem, four stages, classes."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        blocks = [Block(a, b, 1 + (i > 0)) for i, (a, b) in enumerate(pairwise(sizes))]
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values [batch, 3, height, width]; logits [batch, 10]."""
        logits: Tensor = self.head(self.stages(self.stem(pixel_values)).mean((2, 3)))
        return logits


class UNet(nn.Module):
    """Three levels down and up, joined by concatenation."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = [3, width, 2 * width, 4 * width]
        self.down = nn.ModuleList(self._level(a, b) for a, b in pairwise(sizes))
        self.deep = self._level(4 * width, 8 * width)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in (4 * width, 2 * width, width))
        self.join = nn.ModuleList(self._level(2 * n, n) for n in (4 * width, 2 * width, width))
        self.out = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _level(a: int, b: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU()
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values [batch, 3, height, width]; a map [batch, 2, height, width]."""
        kept, x = [], pixel_values
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.deep(x)
        for up, join, side in zip(self.up, self.join, reversed(kept), strict=True):
            x = join(torch.cat([up(x), side], 1))
        found: Tensor = self.out(x)
        return found


class Lstm(nn.Module):
    """Two layers of which the first runs both ways."""

    def __init__(self, features: int = 128, hidden: int = 512) -> None:
        super().__init__()
        self.one = nn.LSTM(features, hidden, bidirectional=True)
        self.two = nn.LSTM(2 * hidden, hidden)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """x [steps, batch, features]; logits [batch, 10]."""
        logits: Tensor = self.head(self.two(self.one(x)[0])[0][-1])
        return logits


class Encoder(nn.Module):
    """BERT's blocks: attention and a wide layer, each followed by its normalization."""

    def __init__(self, layers: int = 4, width: int = 384, heads: int = 6, words: int = 4096) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(512, width)
        one = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids [batch, sequence]; hidden [batch, sequence, width]."""
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        hidden: Tensor = self.blocks(x)
        return hidden


class Decoder(nn.Module):
    """Llama's blocks: root mean square norm, rotary places, grouped keys, a gated layer, caches in and out."""

    def __init__(self, layers: int = 4, width: int = 512, heads: int = 8, groups: int = 4, words: int = 4096) -> None:
        super().__init__()
        self.layers, self.heads, self.groups, self.size = layers, heads, groups, width // heads
        self.words = nn.Embedding(words, width)
        kv = groups * self.size
        sizes = {"q": (width, width), "k": (width, kv), "v": (width, kv), "o": (width, width)}
        sizes |= {"gate": (width, 3 * width), "up": (width, 3 * width), "down": (3 * width, width)}
        self.parts = nn.ModuleList(
            nn.ModuleDict(
                {
                    **{name: nn.Linear(a, b, bias=False) for name, (a, b) in sizes.items()},
                    "one": nn.RMSNorm(width),
                    "two": nn.RMSNorm(width),
                }
            )
            for _ in range(layers)
        )
        self.last = nn.RMSNorm(width)
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, input_ids: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """input_ids [batch, sequence], caches [batch, groups, context, size] each; logits and the caches after."""
        x, out = self.words(input_ids), list[Tensor]()
        for i in range(self.layers):
            part: Any = self.parts[i]
            attended, keys, values = self._attend(part, part["one"](x), caches[2 * i], caches[2 * i + 1])
            x, out = x + attended, [*out, keys, values]
            y = part["two"](x)
            x = x + part["down"](nn.functional.silu(part["gate"](y)) * part["up"](y))
        return (self.head(self.last(x)), *out)

    def _attend(self, part: Any, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = x.shape
        context = keys.shape[2]
        q, k, v = (part[n](x).view(batch, length, -1, self.size).transpose(1, 2) for n in "qkv")
        place = torch.arange(context, context + length)[:, None] / 10000 ** (torch.arange(self.size) / self.size)
        q, k = (t * place.cos() + self._turned(t) * place.sin() for t in (q, k))
        keys, values = torch.cat([keys, k], 2)[:, :, length:], torch.cat([values, v], 2)[:, :, length:]
        repeat = self.heads // self.groups
        spread = [t[:, :, None].expand(-1, -1, repeat, -1, -1).flatten(1, 2) for t in (keys, values)]
        scores = (q @ spread[0].transpose(2, 3) / self.size**0.5).softmax(-1)
        return part["o"]((scores @ spread[1]).transpose(1, 2).flatten(2)), keys, values

    @staticmethod
    def _turned(t: Tensor) -> Tensor:
        left, right = t.chunk(2, -1)
        return torch.cat([-right, left], -1)


def exported(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[ir.Model, Feeds]:
    """A module as a frozen graph, and what it was exported with."""
    torch.manual_seed(0)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(), tuple(inputs.values()), dynamo=True, input_names=list(inputs), verbose=False
        )
    first = next(iter(inputs.values()))
    sequence = first.shape[1] if first.dtype == torch.int64 else None
    model = freeze(present(program).model, first.shape[0], sequence)
    return model, {name: value.numpy() for name, value in inputs.items()}


def pictures(batch: int, size: int) -> dict[str, Tensor]:
    """Noise [batch, 3, size, size]."""
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def tokens(batch: int, length: int, words: int = 4096) -> dict[str, Tensor]:
    """Tokens [batch, length]."""
    return {"input_ids": torch.arange(batch * length).reshape(batch, length) * 7 % words}


def decoding(batch: int, length: int, context: int, layers: int = 4) -> dict[str, Tensor]:
    """Tokens, and empty caches [batch, 4, context, 64]."""
    caches = {f"cache.{i}": torch.zeros(batch, 4, context, 64) for i in range(2 * layers)}
    return {**tokens(batch, length), **caches}


MODELS: dict[str, Callable[[], tuple[ir.Model, Feeds]]] = {
    "resnet 224": lambda: exported(ResNet(), pictures(2, 224)),
    "resnet 320": lambda: exported(ResNet(), pictures(2, 320)),
    "unet 192": lambda: exported(UNet(), pictures(1, 192)),
    "lstm 200": lambda: exported(Lstm(), {"x": torch.randn(200, 4, 128)}),
    "encoder 8 x 128": lambda: exported(Encoder(), tokens(8, 128)),
    "decoder 1 x 64": lambda: exported(Decoder(), decoding(1, 64, 512)),
    "decoder 1 x 1": lambda: exported(Decoder(), decoding(1, 1, 512)),
}
