"""The open part of a manifest: what an exporter found out, whose fields the schema does not fix.

Everything here comes in by `findings`, which reports every problem at once; the rest of the room trusts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from export.report.variant import Variant
from wire.manifest import Manifest, Measured
from wire.record import LARGEST, at_least, read_record

BUCKETS = "buckets"


@dataclass(frozen=True)
class Weight:
    """What became of one weight: its format, its bytes, what was lost, or why it stayed as it was."""

    name: str
    format: str
    bytes_before: int = field(metadata=at_least(0))
    bytes_after: int = field(metadata=at_least(0))
    relative_error: float | None = None
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tied:
    """A weight that several segments read: each has its own copy, `bytes` large, and each copy was counted."""

    weight: str
    segments: tuple[str, ...]
    bytes: int = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableIn:
    """A large table that stayed in a graph though tables were to leave, and why."""

    weight: str
    reason: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """The open fields of a manifest and of its plan, typed; `variant` stands among the checks there."""

    quantization: tuple[Weight, ...] = ()
    tied: tuple[Tied, ...] = ()
    tables_in: tuple[TableIn, ...] = ()
    verified: dict[str, Any] = field(default_factory=dict)
    variant: Variant | None = None
    reasons: tuple[str, ...] = ()
    predicted_by_segment: tuple[int, ...] = ()
    measured_bytes: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """The open fields of a graph's memory. `parts` are those of the prediction, bytes by name."""

    parts: dict[str, int] = field(default_factory=dict)
    measured_anonymous_bytes: int | None = None
    measured_pss_bytes: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def findings(manifest: Manifest, where: str) -> Findings:
    """The open fields of a manifest.

    Raises:
        BadData: every field that is not what it should be.
    """
    given = {"quantization": manifest.quantization}
    given |= {name: manifest.extra[name] for name in ("tied", "tables_in", "verified") if name in manifest.extra}
    verified = given.get("verified")
    if isinstance(verified, Mapping) and "variant" in verified:
        given["verified"] = {name: value for name, value in verified.items() if name != "variant"}
        given["variant"] = verified["variant"]
    plan = manifest.plan.extra
    given |= {name: plan[name] for name in ("reasons", "predicted_by_segment", "measured_bytes") if name in plan}
    return read_record(Findings, given, where)


def memory(measured: Measured, where: str) -> Memory:
    """The open fields of a graph's memory.

    Raises:
        BadData: every field that is not what it should be.
    """
    return read_record(Memory, measured.extra, where)


def distance(verified: Mapping[str, Any]) -> dict[str, float | str]:
    """What was verified, one figure per check: of several groups the worst; what is no number as text.

    Of further buckets, the worst of each error over all of them.

    >>> distance({"chain_error": 1e-7, "gradient_error": {"segment0": 1e-6, "segment1": 2e-6}, "by": "hand"})
    {'chain_error': 1e-07, 'gradient_error': 2e-06, 'by': 'hand'}
    >>> distance({"buckets": {"b2": {"chain_error": 1e-7, "bucket_error": 1e-8}, "b1": {"chain_error": 2e-7}}})
    {'buckets_chain_error': 2e-07, 'buckets_error': 1e-08}
    """
    out: dict[str, float | str] = {}
    for name, value in verified.items():
        if name == BUCKETS and isinstance(value, Mapping):
            out |= _of_buckets(value)
            continue
        numbers = list(value.values()) if isinstance(value, Mapping) else [value]
        if numbers and all(_is_number(n) for n in numbers):
            out[name] = float(max(numbers))
        elif value not in ({}, None):
            out[name] = str(value)
    return out


def _of_buckets(found: Mapping[str, Any]) -> dict[str, float | str]:
    """The worst error of each check."""
    worst: dict[str, float | str] = {}
    for checks in found.values():
        for name, value in (distance(checks) if isinstance(checks, Mapping) else {}).items():
            if name.endswith("_error") and isinstance(value, float):
                called = f"{BUCKETS}_{name.removeprefix('bucket_')}"
                before = worst.get(called)
                worst[called] = max(value, before) if isinstance(before, float) else value
    return worst


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST)
