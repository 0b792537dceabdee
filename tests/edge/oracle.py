"""The small bundle's model in torch: the oracle of forward, loss and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.edge.bundles import Weights
from wire.adapter import Adapter


class Oracle:
    """tanh layers with LoRA, float64."""

    def __init__(self, weights: Weights, adapter: Adapter) -> None:
        self.weights, self.adapter = weights, adapter
        self.factors = {
            f"slot.{name}.{part}": torch.tensor(value.astype(np.float64), requires_grad=True)
            for name, lora in adapter.lora.items()
            for part, value in (("A", lora.a), ("B", lora.b))
        }
        self.factors |= {
            f"slot.{name}.bias": torch.tensor(delta.astype(np.float64), requires_grad=True)
            for name, delta in adapter.bias.items()
        }

        if adapter.head is not None:
            for name, value in (("head.weight", adapter.head.weight), ("head.bias", adapter.head.bias)):
                self.factors[name] = torch.tensor(value.astype(np.float64), requires_grad=True)

    def features(self, x: Any) -> Any:
        """x [n, 16] -> [n, width]."""
        h = torch.as_tensor(np.asarray(x, np.float64))
        for k, (w, b) in enumerate(zip(self.weights.w, self.weights.b, strict=True)):
            z = h @ torch.tensor(w.astype(np.float64)) + torch.tensor(b.astype(np.float64))
            lora = self.adapter.lora.get(f"layer.{k}")
            if lora is not None:
                a, up = self.factors[f"slot.layer.{k}.A"], self.factors[f"slot.layer.{k}.B"]
                z = z + lora.scale * (h @ a @ up)
            if f"layer.{k}" in self.adapter.bias:
                z = z + self.factors[f"slot.layer.{k}.bias"]
            h = torch.tanh(z)
        return h

    def logits(self, x: Any) -> Any:
        """x [n, 16] -> [n, classes]."""
        assert self.adapter.head is not None
        return self.features(x) @ self.factors["head.weight"] + self.factors["head.bias"]

    def gradients(self, x: Any, labels: Any) -> tuple[float, dict[str, Any]]:
        """Sum of cross-entropies and its gradients."""
        loss = torch.nn.functional.cross_entropy(self.logits(x), torch.as_tensor(labels), reduction="sum")
        grads = torch.autograd.grad(loss, list(self.factors.values()))
        return float(loss.detach()), {n: g.numpy() for n, g in zip(self.factors, grads, strict=True)}


def pixels(samples: list[Any]) -> Any:
    """What the image bundle's preprocessing must make of 4 x 4 grey pictures: [n, 16]."""
    return np.stack([(np.asarray(s, np.float64) / 255 - 0.5) / 0.5 for s in samples]).reshape(len(samples), -1)
