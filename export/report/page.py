"""Bundles as one page: a memory bar per board, the graph cut into segments, and the tables of the words."""

from __future__ import annotations

from collections.abc import Sequence

from console import report
from console.table import mib
from export.report.account import Account, absent_stages
from export.report.blocks import Blocks, read_blocks
from export.report.picture import picture
from export.report.tables import BOARDS, board_rows, few, tables
from export.report.words import facts


def page(told: Sequence[Account]) -> str:
    """The whole page.

    Raises:
        BadData: a forward graph is not an ONNX graph.
    """
    first = told[0].manifest
    lead = (
        f"{first.model.task}, {first.model.id}, source {first.model.source_sha256[:12]}, by edgequilt {first.edgequilt}"
    )
    sections = [
        report.section("Memory", *(_memory(account) for account in told)),
        report.section("Cuts", _pictures(told)),
    ]
    absent = [f"Chain {name} lacks {few(devices)}." for name, devices in absent_stages(told).items()]
    overview = report.table(BOARDS, board_rows(told))
    sections.insert(0, report.section("Boards", overview, *(report.text(words) for words in absent)))
    sections += [_details(account) for account in told]
    return report.page(first.model.name, lead, sections)


def _memory(account: Account) -> str:
    memory = account.memory
    rows = [report.Stack("the worker at its largest segment", memory.parts, memory.measured_bytes)]
    several = len(account.manifest.buckets) > 1
    names = [f"{g.segment} {g.kind}{f', {g.bucket}' if several else ''}" for g in memory.graphs]
    rows += [report.Stack(n, g.parts, g.measured_bytes) for n, g in zip(names, memory.graphs, strict=True)]
    budget = f", budget {mib(memory.budget_bytes)}" if memory.budget_bytes else ""
    return report.heading(f"{memory.device}{budget}") + report.stacks(rows, memory.budget_bytes)


def _pictures(told: Sequence[Account]) -> str:
    return report.beside([(account.memory.device, picture(account, _blocks(account))) for account in told])


def _blocks(account: Account) -> list[Blocks]:
    """Of every segment the graph with slots, where there is one."""
    slots = {slot.a or slot.bias for slot in account.manifest.slots}
    out = []
    for segment in account.manifest.segments:
        files = {graph.kind: graph.file for graph in reversed(segment.graphs)}
        file = files.get("forward") or files.get("serve")
        out.append(Blocks((), ()) if file is None else read_blocks(account.bundle.path(file), slots))
    return out


def _details(account: Account) -> str:
    parts = [report.names(list(facts(account)))]
    parts += [report.heading(title) + report.table(header, body) for title, header, body in tables(account)]
    return report.section(account.memory.device, *parts)
