"""What is known of slots from what boards tell, round after round: plain records, and pure steps between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wire.importance import fedpipe, hsplitlora
from wire.importance.file import FORMAT, SCHEMA, Importance, SlotImportance
from wire.record import at_least

MOST_TIMES_MEDIAN = 10.0  # what one board may say of a slot, where three or more say something


@dataclass(frozen=True)
class SlotState:
    """Of one slot: HSplitLoRA's average, S and U of FedPipe, and the rounds that told of it."""

    product: float = field(metadata=at_least(0))
    sensitivity: float = field(metadata=at_least(0))
    uncertainty: float = field(metadata=at_least(0))
    count: int = field(metadata=at_least(1))


@dataclass(frozen=True)
class Known:
    """What a version knows.

    Attributes:
        stage: rounds that told something.
        boards: that told something in the last of them.
        slots: by name.
        version: the number of the version that this was made for.
        first: that of the earliest one, of those that it goes back to, that knew something.
    """

    stage: int = 0
    boards: int = 0
    slots: dict[str, SlotState] = field(default_factory=dict)
    version: int = 0
    first: int = 0

    @property
    def products(self) -> dict[str, float]:
        """HSplitLoRA's average, by slot: by it a plan is judged too old."""
        return {name: slot.product for name, slot in self.slots.items()}


def mean(values: Sequence[float]) -> float:
    """Each board once; of three or more none more than ten times what the middle one says.

    >>> mean([1.0, 2.0]), mean([1.0, 1.0, 1.0, 1000.0])
    (1.5, 3.25)
    """
    most = MOST_TIMES_MEDIAN * float(np.median(values)) if len(values) > 2 else float("inf")
    return float(np.mean([min(value, most) for value in values]))


def after(before: Known, told: Mapping[str, Sequence[float]], version: int) -> Known:
    """What is known after one more round; the same where nobody said anything."""
    if not told:
        return before
    slots = dict(before.slots)
    for name, values in sorted(told.items()):
        measured, old = mean(values), slots.get(name)
        was = None if old is None else fedpipe.Sensed(np.array(old.sensitivity), np.array(old.uncertainty), old.count)
        now = fedpipe.sensed(was, measured)
        product = hsplitlora.averaged(0.0 if old is None else old.product, measured, now.count - 1)
        slots[name] = SlotState(product, float(now.sensitivity), float(now.uncertainty), now.count)
    boards = max(len(values) for values in told.values())
    return Known(before.stage + 1, boards, slots, version, before.first or version)


def file_of(known: Known, model: str) -> Importance:
    """As a file."""
    slots = {}
    for name, s in known.slots.items():
        score = fedpipe.Sensed(np.array(s.sensitivity), np.array(s.uncertainty), s.count).score
        slots[name] = SlotImportance(s.product, float(score), s.count)
    return Importance(FORMAT, SCHEMA, model, "boards", known.stage, slots, boards=known.boards)
