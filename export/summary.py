"""What was exported: a row per board, what became of the weights, and what needs a second look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from console.table import mib, shown, size, table
from devices.memory import allowed_miss
from export.report.account import Account, accounts
from export.report.memory import GraphMemory
from export.report.tables import few
from export.report.variant import noise_words
from wire.bundle import Bundle
from wire.files import digest
from wire.manifest import to_bytes
from wire.record import plain

if TYPE_CHECKING:
    from export.pipeline import ExportedBundle

COLUMNS = 120
NAMES = 3  # of weights in one line
HEADER = ["board", "cuts", "crosses", "batch", "rank", "budget", "predicted", "measured", "files", "distance", "loss"]


def summaries(made: Sequence[ExportedBundle]) -> list[dict[str, Any]]:
    """A mapping per bundle: sizes in bytes; distance and loss as `export.verify` found them, None where not checked."""
    return [_summary(bundle, account) for bundle, account in _told(made)]


def _told(made: Sequence[ExportedBundle]) -> list[tuple[ExportedBundle, Account]]:
    by_folder = {bundle.folder: bundle for bundle in made}
    bundles = [Bundle(b.folder, b.manifest, digest(to_bytes(b.manifest)), None) for b in made]
    return [(by_folder[account.bundle.folder], account) for account in accounts(bundles)]


def _summary(bundle: ExportedBundle, account: Account) -> dict[str, Any]:
    manifest, plan = account.manifest, account.manifest.plan
    cosine = account.distance.get("feature_cosine")
    return {
        "board": plan.device,
        "folder": str(bundle.folder),
        "chain": None if manifest.chain is None else plain(manifest.chain),
        "split": None if manifest.split is None else plain(manifest.split),
        "bundle_sha256": account.bundle.sha256,
        "mode": plan.mode,
        "quant": plan.quant,
        "segments": len(manifest.segments),
        "crossing_bytes": account.crossing_bytes,
        "micro_batch": plan.micro_batch,
        "rank": plan.rank,
        "slots": len(manifest.slots),
        "budget_bytes": plan.budget_bytes,
        "predicted_bytes": plan.predicted_bytes,
        "measured_bytes": bundle.measured_bytes,
        "file_bytes": bundle.file_bytes,
        "distance": account.distance.get("chain_error"),
        "cosine_loss": 1 - cosine if isinstance(cosine, float) else None,
        "verified": account.distance,
        "formats": [asdict(row) for row in account.formats],
        "stayed_fp32": [asdict(row) for row in account.stayed],
        "instead": [asdict(row) for row in account.instead],
        "tables_in": [{"weight": t.weight, "reason": t.reason} for t in account.found.tables_in],
        "tied": [{"weight": t.weight, "segments": t.segments, "bytes": t.bytes} for t in account.found.tied],
        "graphs": [asdict(graph) for graph in account.memory.graphs],
        "reasons": account.found.reasons,
        "variant": None if account.found.variant is None else plain(account.found.variant),
        "warnings": list(_warnings(account)),
    }


def closing(made: Sequence[ExportedBundle]) -> str:
    """The same for people, in lines of at most 120 letters."""
    told = _told(made)
    rows = [_row(_summary(bundle, account)) for bundle, account in told]
    lines = [_fitted(rows), *_chains([account for _, account in told]), *_splits([account for _, account in told])]
    notes: dict[str, list[str]] = {}
    for _, account in told:
        for note in (*_weights(account), *(f"warning: {words}" for words in _warnings(account))):
            notes.setdefault(note, []).append(account.memory.device)
    for note, boards in notes.items():
        text = note if len(boards) == len(told) else f"{few(dict.fromkeys(boards))}: {note}"
        lines += textwrap.wrap(shown(text), COLUMNS, subsequent_indent="  ")
    return "\n".join(lines)


def _chains(told: Sequence[Account]) -> Iterator[str]:
    """A line per chain: its boards, and the bytes of one run of a micro-batch that go from board to board."""
    stages: dict[str, list[Account]] = {}
    for account in told:
        if account.manifest.chain is not None:
            stages.setdefault(account.manifest.chain.id, []).append(account)
    for name, accounts_of in stages.items():
        between = sum(a.segments[0].crossing_bytes for a in accounts_of if a.segments)
        way = " -> ".join(shown(account.memory.device) for account in accounts_of)
        yield from textwrap.wrap(f"{name}: {way}, {size(between)} between boards", COLUMNS, subsequent_indent="  ")


def _splits(told: Sequence[Account]) -> Iterator[str]:
    """A line per tail: which front ends where, and the bytes of one item that cross there."""
    for account in told:
        split = account.manifest.split
        if split is None or split.role != "tail":
            continue
        ends = [(shown(name), border.unit) for border in split.borders for name in border.devices]
        words = f"{split.id}: {', '.join(f'{name} up to unit {unit}' for name, unit in ends)}, then {shown(split.tail)}"
        yield from textwrap.wrap(words, COLUMNS, subsequent_indent="  ")


def _row(one: dict[str, Any]) -> list[str]:
    figures = [one["distance"], one["cosine_loss"]]
    return [
        shown(one["board"]),
        str(one["segments"] - 1),
        size(one["crossing_bytes"]),
        str(one["micro_batch"]),
        str(one["rank"]),
        *(mib(one[f"{name}_bytes"]) for name in ("budget", "predicted", "measured", "file")),
        *(f"{figure:.2g}" if isinstance(figure, float) else "-" for figure in figures),
    ]


def _fitted(rows: list[list[str]]) -> str:
    """The table; where it is too wide, long names of boards lose their middle."""
    text = table(HEADER, rows)
    over = max(map(len, text.splitlines())) - COLUMNS
    if over <= 0:
        return text
    most = max(len(HEADER[0]), max(len(row[0]) for row in rows) - over)
    return table(HEADER, [[_short(row[0], most), *row[1:]] for row in rows])


def _short(name: str, most: int) -> str:
    """A name without its middle.

    >>> _short("a-board-with-a-long-name", 13)
    'a-boa...-name'
    """
    if len(name) <= most:
        return name
    tail = (most - 3) // 2
    return f"{name[: most - 3 - tail]}...{name[len(name) - tail :]}"


def _weights(account: Account) -> Iterator[str]:
    """What became of the weights, and what stayed in float32 though something else was asked for."""
    formats = [
        f"{row.weights} in {row.format} ({_change(row.bytes_before, row.bytes_after)})" for row in account.formats
    ]
    if formats:
        yield f"weights: {', '.join(formats)}"
    if account.manifest.plan.quant != "fp32":
        for row in account.stayed:
            yield f"stayed in fp32, {row.reason}: {few(row.names, NAMES)}"
    for row in account.instead:
        yield f"{row.reason}: {few(row.names, NAMES)}"
    # of a plan that was made again only the last choice counts
    said = {reason.split()[1]: reason for reason in account.found.reasons if reason.startswith("formats ")}
    yield from said.values()
    for table_in in account.found.tables_in:
        yield f"the table {table_in.weight} stays in the graph: {table_in.reason}"


def _change(before: int, after: int) -> str:
    return size(after) if before == after else f"{size(before)} to {size(after)}"


def _warnings(account: Account) -> Iterator[str]:
    """What a user should know before a bundle goes to a board."""
    variant = account.found.variant
    if variant is not None and variant.noise is not None and not variant.noise.passes:
        yield f"{noise_words(account.manifest.plan.quant, variant.noise)}; --strict refuses it"
    for tied in account.found.tied:
        again = tied.bytes * (len(tied.segments) - 1)
        yield f"{tied.weight} is tied and in {few(tied.segments)}: {size(again)} more than once"
    for graph in account.memory.graphs:
        if _missed(graph) and graph.miss_bytes is not None:
            side = "above" if graph.miss_bytes > 0 else "below"
            yield f"{graph.segment}.{graph.kind} was measured {size(abs(graph.miss_bytes))} {side} its prediction"


def _missed(graph: GraphMemory) -> bool:
    """Whether a measured peak lies outside the bar of its prediction."""
    if graph.miss_bytes is None or graph.growth_bytes is None:
        return False
    return abs(graph.miss_bytes) > allowed_miss(graph.growth_bytes, 0)
