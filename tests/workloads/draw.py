"""Every number of a model drawn from a seed: zeros and ones would hide a term that a graph has lost."""

from __future__ import annotations

import math

import torch
from torch import nn


def draw(module: nn.Module, seed: int) -> nn.Module:
    """Draw all parameters and running statistics, in place; returns the module, in evaluation mode.

    Matrices and kernels keep the variance of what passes through a ReLU (He et al. 2015). Vectors move away from what
    they start as; those that start at random, as most biases do, are drawn whole: a net is the same every time.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.numel() == max(parameter.shape, default=1):
                random = "bias" in name.rpartition(".")[2] or bool((parameter != parameter.flatten()[0]).any())
                parameter.copy_((0 if random else parameter) + 0.2 * noise(parameter))
            else:
                parameter.copy_(noise(parameter) * math.sqrt(2.0 / math.prod(parameter.shape[1:])))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(1 + torch.rand(buffer.shape, generator=generator))
    return module.eval()
