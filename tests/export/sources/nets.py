"""Torch modules as a user's own file would have them; the factories are what the tests name."""

from __future__ import annotations

import torch
from torch import nn


class Perceptron(nn.Module):
    """A convolution and two linear layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 8)])
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.blocks[1](self.drop(torch.relu(self.blocks[0](self.conv(x)))))
        return y


class Cell(nn.Module):
    """A recurrent cell that returns its output and its next state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(16, 24), nn.Linear(24, 24)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        after = torch.tanh(self.w(x) + self.u(h))
        return {"y": after * 2, "h_next": after}


class Square(nn.Module):
    """Works for four rows only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.reshape(4, 4)


class Branching(nn.Module):
    """Decides by the values of its input, which cannot be exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if float(x.sum()) > 0 else x - 1


class Twofold(nn.Module):
    """Trains as two parallel layers, serves as one; `wrong` loses the second on the way."""

    def __init__(self, *, wrong: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.wrong = nn.Linear(6, 6), nn.Linear(6, 6), wrong
        self.merged: nn.Linear | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.one(x) + self.two(x) if self.merged is None else self.merged(x)
        return y

    def switch_to_deploy(self) -> None:
        merged = nn.Linear(6, 6)
        merged.weight.copy_(self.one.weight + (0 if self.wrong else 1) * self.two.weight)
        merged.bias.copy_(self.one.bias + self.two.bias)
        self.merged = merged
        del self.one, self.two


class Normed(nn.Module):
    """Serves as another module, which `fuse` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.mean = torch.arange(6.0)
        self.norm.running_mean = self.mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.linear(x))
        return y

    def fuse(self) -> nn.Linear:
        scale = self.norm.weight / (1 + self.norm.eps) ** 0.5  # its variance is one
        made = nn.Linear(6, 6)
        made.weight.copy_(self.linear.weight * scale[:, None])
        made.bias.copy_((self.linear.bias - self.mean) * scale + self.norm.bias)
        return made


def perceptron() -> tuple[nn.Module, torch.Tensor]:
    """A module in training mode and an example of one row."""
    torch.manual_seed(1)
    return Perceptron(), torch.randn(1, 3, 16)


class cell:  # noqa: N801  # named like a function, as a factory is
    """An object with everything that a factory can say."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        self.module = Cell()
        self.inputs = {"x": torch.randn(2, 16), "h": torch.zeros(2, 24)}
        self.states = {"h": "h_next"}


def listener() -> nn.Module:
    """A net that takes samples of sound and says at which rate."""
    net = nn.Sequential(nn.Linear(200, 3))
    net.example_inputs = {"input": torch.zeros(2, 200)}  # type: ignore[assignment]  # as a source may carry it
    net.sampling_rate = 8000  # type: ignore[assignment]  # the same
    return net


def square() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """A module whose micro-batch is fixed."""
    return Square(), (torch.randn(4, 4),)


def twofold() -> tuple[nn.Module, torch.Tensor]:
    """A module in two forms."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 6), Twofold()), torch.randn(2, 6)


def program() -> torch.export.ExportedProgram:
    """A program that is exported already."""
    torch.manual_seed(4)
    example = (torch.randn(3, 6),)
    return torch.export.export(nn.Linear(6, 5), example, dynamic_shapes=({0: torch.export.Dim("rows", max=64)},))


def branching() -> tuple[nn.Module, torch.Tensor]:
    """What cannot be exported."""
    return Branching(), torch.ones(2, 3)


def raising() -> None:
    """A factory that fails."""
    raise RuntimeError("no weights\nin this folder")


def leaving() -> None:
    """A factory that ends the program."""
    raise SystemExit(3)


def nothing() -> None:
    """A factory that returns nothing."""


def bare() -> nn.Module:
    """A module without example inputs."""
    return nn.Linear(2, 2)


def numbers() -> tuple[nn.Module, tuple[int, int]]:
    """Example inputs that are no tensors."""
    return nn.Linear(2, 2), (1, 2)


def misfit() -> tuple[nn.Module, torch.Tensor]:
    """Example inputs that the module does not take."""
    return nn.Linear(2, 2), torch.ones(1, 3)
