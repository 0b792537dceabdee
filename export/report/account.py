"""Everything that is told of a bundle in one value; several bundles in running order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from export.report.edges import Edge, edges
from export.report.facts import (
    FormatFacts,
    SegmentFacts,
    Stayed,
    format_facts,
    instead_facts,
    segment_facts,
    stayed_facts,
)
from export.report.findings import Findings, distance, findings
from export.report.memory import BoardMemory, board_memory
from wire.bundle import MANIFEST, Bundle
from wire.manifest import Chain, Manifest
from wire.record import plain


@dataclass(frozen=True)
class Account:
    """A bundle and what follows from its manifest."""

    bundle: Bundle
    found: Findings
    segments: tuple[SegmentFacts, ...]
    edges: tuple[Edge, ...]
    formats: tuple[FormatFacts, ...]
    stayed: tuple[Stayed, ...]
    instead: tuple[Stayed, ...]
    memory: BoardMemory

    @property
    def manifest(self) -> Manifest:
        """What it is an account of."""
        return self.bundle.manifest

    @property
    def file_bytes(self) -> int:
        """All files of the bundle."""
        return sum(file.bytes for file in self.manifest.files)

    @property
    def crossing_bytes(self) -> int:
        """All boundaries of one run of a micro-batch, with those that come from another board."""
        return sum(segment.crossing_bytes for segment in self.segments)

    @property
    def distance(self) -> dict[str, float | str]:
        """What was verified, one figure per check."""
        return distance(self.found.verified)


def accounts(bundles: Sequence[Bundle]) -> list[Account]:
    """One account per bundle; the stages of a chain follow each other in running order.

    Raises:
        BadData: an open field of a manifest is not what it should be.
    """
    out: list[Account] = []
    for bundle in in_order(bundles):
        before = out[-1].manifest if out and _next_stage(out[-1].manifest, bundle.manifest) else None
        out.append(_account(bundle, before))
    return out


def _account(bundle: Bundle, before: Manifest | None) -> Account:
    m, where = bundle.manifest, str(bundle.folder / MANIFEST)
    found, segments = findings(m, where), segment_facts(m, before)
    memory = board_memory(m, segments, found, where)
    tensors = edges(segments, m.chain, m.split)
    return Account(
        bundle, found, segments, tensors, format_facts(found), stayed_facts(found), instead_facts(found), memory
    )


def in_order(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Bundles as they were named, but the stages of each chain by their position."""
    firsts: dict[str, int] = {}
    for index, bundle in enumerate(bundles):
        if bundle.manifest.chain is not None:
            firsts.setdefault(bundle.manifest.chain.id, index)

    def place(index: int) -> tuple[int, int, int]:
        chain = bundles[index].manifest.chain
        return (index, 0, index) if chain is None else (firsts[chain.id], chain.position, index)

    return [bundles[index] for index in sorted(range(len(bundles)), key=place)]


def _next_stage(first: Manifest, second: Manifest) -> bool:
    a, b = first.chain, second.chain
    return a is not None and b is not None and a.id == b.id and b.position == a.position + 1


def absent_stages(told: Sequence[Account]) -> dict[str, list[str]]:
    """Devices of chains whose stages are not among the bundles, by chain."""
    chains: dict[str, Chain] = {}
    there: dict[str, set[int]] = {}
    for account in told:
        chain = account.manifest.chain
        if chain is not None:
            chains.setdefault(chain.id, chain)
            there.setdefault(chain.id, set()).add(chain.position)
    found = {
        name: [device for at, device in enumerate(chain.devices) if at not in there[name]]
        for name, chain in chains.items()
    }
    return {name: devices for name, devices in found.items() if devices}


def as_json(account: Account) -> dict[str, Any]:
    """The manifest, and beside it what follows from it."""
    derived = {
        "bundle_sha256": account.bundle.sha256,
        "file_bytes": account.file_bytes,
        "crossing_bytes": account.crossing_bytes,
        "segments": [asdict(segment) for segment in account.segments],
        "tensors": [asdict(edge) for edge in account.edges],
        "formats": [asdict(row) for row in account.formats],
        "stayed_fp32": [asdict(row) for row in account.stayed],
        "instead": [asdict(row) for row in account.instead],
        "tied_bytes": sum(t.bytes * (len(t.segments) - 1) for t in account.found.tied),
        "distance": account.distance,
        "memory": asdict(account.memory),
    }
    mapping: dict[str, Any] = plain(account.manifest)
    return {**mapping, "derived": derived}
