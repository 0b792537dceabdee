"""What a user asks of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.prepare import Wanted
from export.study.data import Items
from export.study.temperatures import TEMPERATURES
from export.study.times import BUDGET_S
from export.study.variant import Variant

MOST_CALLS = 256
CALIBRATION_CALLS = 32


@dataclass(frozen=True)
class StudyRequest:
    """What a user asks for.

    Attributes:
        wanted: the model; without slots.
        items: what it is tried on.
        data: where they are from, for sentences.
        formats: fp32 first.
        calibration: items for formats that look at input before they are made.
        labels: names of the classes in the order of the logits, where the model has none.
        keep: formats of some weights in every variant but fp32, by patterns of their names.
        temperatures: of sampling, for decoders.
        sequence: tokens of a text; None for 64 or as many as the model can place.
        most_calls: of those that the items are; a long text is many, for a decoder.
        time_s: seconds of measuring for each format at one number of rows.
    """

    wanted: Wanted
    items: Items
    data: Path
    formats: tuple[Variant, ...]
    calibration: Items
    labels: tuple[str, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict)
    temperatures: tuple[float, ...] = TEMPERATURES
    sequence: int | None = None
    most_calls: int = MOST_CALLS
    time_s: float = BUDGET_S
