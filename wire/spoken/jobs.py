"""What a device is to do, that it need not, and that it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wire.record import NAME, at_least, matching
from wire.spoken.sender import Sender

JobKind = Literal["train", "statistics", "evaluate", "tail", "fix"]


@dataclass(frozen=True)
class Job:
    """Hub: do this. The same job may be sent again; it is done once."""

    TYPE: ClassVar[str] = "job"
    device: str = field(metadata=matching(NAME))
    job: str
    kind: JobKind
    round: int = field(metadata=at_least(0))
    versions: tuple[str, ...]  # digests; the one to start from, or those to evaluate
    settings: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cancel:
    """Hub: the round no longer waits for this job."""

    TYPE: ClassVar[str] = "cancel"
    device: str = field(metadata=matching(NAME))
    job: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Device: a job could not be done, and why."""

    TYPE: ClassVar[str] = "failed"
    sender: Sender
    job: str
    reason: str
    peer: str = ""  # who has the other half of a split job, where that one could not; the hub then finds another
    extra: dict[str, Any] = field(default_factory=dict)


def ability(kind: str, settings: Mapping[str, Any]) -> str:
    """What of `Hello.jobs` a job needs: its kind, the trainer of forward passes (spry, qzo), or `front` of split ones.

    >>> ability("train", {"trainer": "spry"}), ability("evaluate", {}), ability("train", {"split": {"tail": "barn"}})
    ('spry', 'evaluate', 'front')
    """
    if kind in ("train", "statistics") and settings.get("split"):
        return "front"
    trainer = settings.get("trainer")
    return str(trainer) if kind == "train" and trainer in ("spry", "qzo") else kind
