"""What a round asked of a board, as the door needs it to know what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hub.aggregation.method import Trains
from hub.making.model import Model
from hub.rounds.state import Half, Round
from wire.adamw import Hyperparameters
from wire.adapter import Adapter
from wire.optimizers import Adam32
from wire.thin.table import NONE

Start = Callable[[str, int], Adapter]


@dataclass(frozen=True)
class Asked:
    """What the jobs of a round asked for.

    Attributes:
        rank: the hub's.
        versions: those that the job named.
        ranks: those of a statistics job.
        kinds: what a train job may bring: lora, bias, scales.
        head: whether a train job brings a head too.
        factors: of lora that learn; the other one must come back as it was sent.
        start: from the digest of a version and a rank, what a board of that rank began with: factors, biases, heads.
        thin: how a train job may send what it brings, beside whole.
        replay: how pairs along directions become factors, where a train job brings those.
        slots: of lora that an update holds, all of them; None: every one of the model's.
    """

    rank: int
    versions: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ("lora",)
    head: bool = False
    factors: Trains = "both"
    start: Start = lambda digest, rank: Adapter("")
    thin: str = NONE
    replay: Replay | None = None
    slots: frozenset[str] | None = None

    def slots_of(self, model: Model) -> frozenset[str]:
        """Of a model, those that an update holds."""
        return frozenset(slot.name for slot in model.slots) if self.slots is None else self.slots

    def began(self, digest: str, rank: int) -> Adapter:
        """What a board of a rank began with, of the slots that it holds."""
        whole = self.start(digest, rank)
        if self.slots is None:
            return whole
        return replace(whole, lora={name: factors for name, factors in whole.lora.items() if name in self.slots})


@dataclass(frozen=True)
class Replay:
    """What the hub knows of training along directions (wire.forward_gradients); an update brings pairs alone.

    Attributes:
        steps: of the job, at most.
        per_step: pairs of a step.
        optimizer: of the job.
    """

    steps: int
    per_step: int
    optimizer: Adam32


def asked_of(state: Round, rank: int, start: Start, slots: frozenset[str] | None = None, half: Half = "") -> Asked:
    """What a round asks for in its present phase; `start` and `slots` as in `Asked`, `half` of a split job."""
    versions = (state.version, state.against) if state.phase == "gating" else state.versions
    told = state.settings
    return Asked(
        rank,
        versions,
        state.statistics_ranks,
        tuple(told.get("kinds", ("lora",))),
        bool(told.get("head")) and half in ("", _side_of_head(told)),
        told.get("factors", "both"),
        start,
        str(told.get("thin", NONE)),
        _replay(told),
        slots,
    )


def _side_of_head(told: Mapping[str, Any]) -> Half:
    """Which half of a split job trains the head: the one that has the labels."""
    split = told.get("split")
    return "front" if isinstance(split, dict) and split.get("labels") == "stay" else "tail"


def _replay(told: Mapping[str, Any]) -> Replay | None:
    if told.get("trainer") != "spry":
        return None
    rates = Hyperparameters(told["learning_rate"], told["beta1"], told["beta2"], weight_decay=told["weight_decay"])
    return Replay(told["steps"], told["directions"], Adam32(rates))
