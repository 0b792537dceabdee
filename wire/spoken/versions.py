"""States of an adapter, and which of them devices serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from wire.record import DIGEST, NAME, at_least, matching


@dataclass(frozen=True)
class Rung:
    """One piece of a ladder, directions low to high - 1, as an adapter file."""

    low: int = field(metadata=at_least(0))
    high: int = field(metadata=at_least(1))
    blob: str = field(metadata=matching(DIGEST))
    bytes: int = field(metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edit:
    """A fix of wrong answers: factors on top of the heads, as an adapter file; a version without it is as before."""

    fix: int = field(metadata=at_least(1))  # the number of the round that found it
    blob: str = field(metadata=matching(DIGEST))
    bytes: int = field(metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """Hub: one published state of an adapter. Its digest is the SHA-256 of the body bytes of this message."""

    TYPE: ClassVar[str] = "version"
    model: str = field(metadata=matching(NAME))
    version: int = field(metadata=at_least(0))
    parent: str  # digest of the parent, empty for version 0
    rank: int = field(metadata=at_least(0))
    scale: float
    rungs: tuple[Rung, ...]
    labels: tuple[str, ...]
    head: str = ""  # blob of the head's adapter file; empty while no class is known
    head_bytes: int = 0
    round: int = 0
    others: str = ""  # blob of the other kinds' adapter file, whatever the rank: changes of biases; empty without any
    others_bytes: int = 0
    parents: tuple[str, ...] = ()  # digests of others that updates in it started from, besides `parent`
    optimiser: str = ""  # blob of what the hub's optimiser remembers, of no use to devices; empty without any
    edits: tuple[Edit, ...] = ()  # fixes that are on top of its heads, in the order in which they came
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """Hub: serve this version (it passed the gate, or somebody rolled back to it). A higher `sequence` wins."""

    TYPE: ClassVar[str] = "release"
    model: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    version: int = field(metadata=at_least(0))
    digest: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Canary:
    """Hub: you serve this version on trial, until a release (or another trial) of a higher `sequence` comes.

    A type of its own, since agents that know only releases must not take another device's trial for one.
    """

    TYPE: ClassVar[str] = "canary"
    device: str = field(metadata=matching(NAME))
    model: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    version: int = field(metadata=at_least(0))
    digest: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)
