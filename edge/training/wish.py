"""What a user asks of a training run: plain values, so that all of them go into a checkpoint's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edge.data.row import KEPT_BACK
from wire.record import at_least

TRAINERS = ("auto", "backprop", "spry", "qzo", "ridge", "edit")
OPTIMIZERS = ("adamw", "adam8", "sgd")
FACTORS = ("both", "a", "b")
SCHEDULES = ("linear", "constant")


@dataclass(frozen=True)
class Wish:
    """A training run.

    Attributes:
        trainer: of `TRAINERS`.
        kinds: what may learn; those that the bundle has no place for are left out.
        factors: of lora: both learn, or one of them and the other rests.
        rank: of factors; None takes what the data support, or the plan's.
        scaling: of factors.
        optimizer: of `OPTIMIZERS`, for trainers with gradients.
        rate: None takes the trainer's.
        schedule: of the rate: falling in a line to 0 over all steps, or constant.
        warmup: share of the steps over which the rate rises.
        clip: the largest norm of a gradient; 0: any.
        epochs: passes over the rows.
        steps: instead of passes.
        batch: rows of a step.
        micro_batch: rows of a graph's run; None takes the plan's.
        packed: of a decoder's texts: one after the other in full rows.
        directions: of forward-only trainers, for each step.
        layers: weights whose scales `qzo` moves, by patterns of their names.
        kept_back: share of the rows to judge by.
        patience: looks without a lower loss after which it stops; 0: never.
        seed: of everything that is drawn.
        bound: largest share of kept rows whose answer an edit may change.
        force: train also what the data do not support.
    """

    trainer: Literal["auto", "backprop", "spry", "qzo", "ridge", "edit"] = "auto"
    kinds: tuple[str, ...] = ("lora", "bias", "head")
    factors: Literal["both", "a", "b"] = "both"
    rank: int | None = field(default=None, metadata=at_least(1, 4096))
    scaling: Literal["lora", "rslora"] = "lora"
    optimizer: Literal["adamw", "adam8", "sgd"] = "adamw"
    rate: float | None = field(default=None, metadata=at_least(1e-12))
    schedule: Literal["linear", "constant"] = "linear"
    warmup: float = field(default=0.06, metadata=at_least(0, 1))
    clip: float = field(default=1.0, metadata=at_least(0))
    epochs: float = field(default=3.0, metadata=at_least(1e-6))
    steps: int | None = field(default=None, metadata=at_least(1, 1_000_000))
    batch: int = field(default=16, metadata=at_least(1, 65_536))
    micro_batch: int | None = field(default=None, metadata=at_least(1, 65_536))
    packed: bool = False
    directions: int = field(default=8, metadata=at_least(1, 65_536))
    layers: tuple[str, ...] = ("*",)
    kept_back: float = field(default=KEPT_BACK, metadata=at_least(0, 0.9))
    patience: int = field(default=4, metadata=at_least(0))
    seed: int = field(default=0, metadata=at_least(0))
    bound: float = field(default=0.01, metadata=at_least(0, 1))
    force: bool = False
