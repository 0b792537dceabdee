"""A board's steps: gradients of its factors and of the head through front, border and tail; AdamW, begun anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.splitting.models import SCALE, Slotted
from wire.importance.told import mean_over_steps
from wire.kinds.head import Head
from wire.kinds.lora import Lora

TOLD = 8  # the last steps
BETAS = (0.9, 0.99)


@dataclass
class Trained:
    """Factors and head after some steps, what they say of slots, and the tokens that crossed."""

    lora: dict[str, Lora]
    head: Head | None
    told: dict[str, float]
    tokens: int
    state: Any = field(default=None, repr=False)


def train(
    model: Slotted,
    start: dict[str, Lora],
    head: Head | None,
    batches: NDArray[np.int64],
    rate: float,
    state: Any = None,
) -> Trained:
    """Some steps, `batches` [steps, rows]; `state` of an optimizer that goes on."""
    fed = {name: (_leaf(model, one.a), _leaf(model, one.b)) for name, one in start.items()}
    top = [] if head is None else [_leaf(model, head.weight), _leaf(model, head.bias)]
    leaves = [*(factor for pair in fed.values() for factor in pair), *top]
    optimizer = torch.optim.Adam(leaves, lr=rate, betas=BETAS)
    if state is not None:
        optimizer.load_state_dict(state)
        optimizer.param_groups[0]["lr"] = rate
    told: list[dict[str, float]] = []
    tokens = 0
    for number, rows in enumerate(batches):
        loss, counted = model.losses(rows, fed, top)
        slopes = torch.autograd.grad(loss / counted[1], leaves)
        tokens += int(model.lengths[rows].max()) * len(rows)
        if number >= len(batches) - TOLD:
            told.append(_told(fed, slopes))
        for leaf, slope in zip(leaves, slopes, strict=True):
            leaf.grad = slope
        optimizer.step()
    made = {name: Lora(_back(a), _back(b), SCALE) for name, (a, b) in fed.items()}
    after = None if head is None else Head(_back(top[0]), _back(top[1]))
    return Trained(made, after, mean_over_steps(told), tokens, optimizer.state_dict())


def judge(model: Slotted, lora: dict[str, Lora], head: Head | None, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Mean loss of what is to be predicted, and the share of it that is right; nothing is coded."""
    fed = {name: (model.there(one.a), model.there(one.b)) for name, one in lora.items()}
    top = [] if head is None else [model.there(head.weight), model.there(head.bias)]
    rows = rows[np.argsort(model.lengths[rows], kind="stable")]
    model.border, total, found = 0, 0.0, np.zeros(2)
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            loss, counted = model.losses(rows[start : start + 64], fed, top)
            total, found = total + float(loss), found + counted.cpu().numpy()
    return total / found[1], float(found[0] / found[1])


def features_of(model: Slotted, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of an encoder without adapters, [rows, width]."""
    model.fed, model.border = {}, 0
    with torch.no_grad():
        parts = [model.features(*model.batch(rows[at : at + 64])).cpu().numpy() for at in range(0, len(rows), 64)]
    return np.concatenate(parts)


def _leaf(model: Slotted, array: NDArray[Any]) -> Tensor:
    return model.there(np.array(array, np.float32)).requires_grad_()


def _back(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.detach().cpu().numpy().copy()
    return found


def _told(fed: dict[str, tuple[Tensor, Tensor]], slopes: Sequence[Tensor]) -> dict[str, float]:
    """How much each slot matters to this step's loss, as boards tell it (`wire.importance.told`), in torch."""
    pairs = zip(fed.values(), slopes[0::2], slopes[1::2], strict=False)
    sums = [(a * ga).abs().mean(dim=0).sum() + (b * gb).abs().mean(dim=1).sum() for (a, b), ga, gb in pairs]
    return dict(zip(fed, torch.stack(sums).detach().cpu().tolist(), strict=True))
