"""A bundle as people read it in a terminal: facts, then tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from console.table import MIB, mib, shown, size, table
from export.report.account import Account, absent_stages
from export.report.facts import shape_words, tensor_bytes
from export.report.tables import BOARDS, board_rows, few, tables
from export.report.variant import variant_words
from wire.borders import Split
from wire.manifest import Tensor


def words(told: Sequence[Account]) -> str:
    """Several bundles one after the other, with an overview on top where there are several."""
    parts = [_table(BOARDS, board_rows(told))] if len(told) > 1 else []
    parts += [f"chain {name} lacks {few(devices)}" for name, devices in absent_stages(told).items()]
    return "\n\n".join([*parts, *(_one(account) for account in told)])


def _one(account: Account) -> str:
    lines = [f"{name:<9} {text}" for name, text in facts(account)]
    parts = [f"{title}:\n{_table(header, rows)}" for title, header, rows in tables(account)]
    return "\n\n".join(["\n".join(lines), *parts])


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return table(header, [[shown(cell) for cell in row] for row in rows])


def facts(account: Account) -> Iterator[tuple[str, str]]:
    """Names and texts of what is not a table."""
    m, plan = account.manifest, account.manifest.plan
    yield "model", f"{shown(m.model.name)} ({m.model.id}), {shown(m.model.task)}"
    yield "source", f"sha256 {m.model.source_sha256}"
    yield "board", f"{shown(plan.device)}, mode {plan.mode}, rank {plan.rank}, budget {mib(plan.budget_bytes)}"
    yield from _among_others(account)
    yield "plan", f"{len(m.segments)} segment(s), micro-batch {plan.micro_batch}, {shown(plan.quant)} weights"
    if len(m.buckets) > 1:
        yield "buckets", few([bucket.name for bucket in m.buckets], 12)
    for number, reason in enumerate(account.found.reasons):
        yield "" if number else "because", shown(reason)
    yield "memory", memory_words(account)
    if m.inputs:  # a later stage of a chain may have none
        yield "input", _tensors(m.inputs)
    if m.outputs:
        yield "output", _tensors(m.outputs)
    if m.states:
        pairs = [f"{s.input} -> {s.output} {s.dtype} {shape_words(s.shape)}" for s in m.states]
        total = sum(tensor_bytes(s.dtype, s.shape) or 0 for s in m.states)
        yield "state", f"{few(pairs, 2)}; {size(total)} in all"
    yield "head", _head(account)
    if m.labels:
        yield "labels", few(m.labels)
    yield "distance", distance_words(account.distance)
    if account.found.variant is not None:
        for number, text in enumerate(variant_words(plan.quant, account.found.variant)):
            yield "" if number else "variant", shown(text)
    yield "bundle", f"{account.bundle.sha256}, {mib(account.file_bytes)} in {len(m.files)} files"
    yield "made by", f"edgequilt {shown(m.edgequilt)}"


def memory_words(account: Account) -> str:
    """The board's prediction with its parts, beside what was measured."""
    memory = account.memory
    measured = "not measured" if memory.measured_bytes is None else f"{mib(memory.measured_bytes)} measured"
    return f"{mib(memory.predicted_bytes)} predicted ({parts_words(memory.parts)}), {measured}"


def parts_words(parts: Mapping[str, int]) -> str:
    """The parts of a prediction in MiB, the largest first, without those that would be 0.0.

    >>> parts_words({"weights": 5 << 20, "runtime": 63 << 20, "adapters": 0})
    'runtime 63.0, weights 5.0'
    """
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{shown(name)} {value / MIB:.1f}" for name, value in ordered if value >= MIB // 20)


def distance_words(distance: Mapping[str, float | str]) -> str:
    """How far the shipped graphs are from the original, and what else was verified, in one line.

    >>> distance_words({"chain_error": 9.31e-07, "by": "hand"}), distance_words({})
    ('chain error 9.31e-07, by hand', 'not verified')
    """
    told = [
        f"{shown(name).replace('_', ' ')} {shown(value) if isinstance(value, str) else f'{value:.4g}'}"
        for name, value in distance.items()
    ]
    return ", ".join(told) or "not verified"


def _among_others(account: Account) -> Iterator[tuple[str, str]]:
    """Which part of a model that several boards hold."""
    if account.manifest.chain is not None:
        yield "chain", _chain(account)
    if account.manifest.split is not None:
        yield "split", _split(account.manifest.split)


def _chain(account: Account) -> str:
    chain = account.manifest.chain
    if chain is None:
        return ""
    stage = f"stage {chain.position + 1} of {len(chain.devices)} of {chain.id}"
    return f"{stage} ({' -> '.join(map(shown, chain.devices))}), objective {shown(chain.objective)}"


def _split(split: Split) -> str:
    ends = ", ".join(f"unit {b.unit} ({few([shown(name) for name in b.devices])})" for b in split.borders)
    if split.role == "tail":
        return f"tail of {split.id}, behind {ends}"
    return f"front of {split.id}, up to {ends}; its tail is {shown(split.tail)}"


def _head(account: Account) -> str:
    head, labels = account.manifest.head, account.manifest.labels
    if head is None:
        return "none"
    return f"{head.features} features to {len(labels)} classes, {shown(head.pooling)} pooling, in {shown(head.segment)}"


def _tensors(tensors: Iterable[Tensor]) -> str:
    return ", ".join(shown(f"{t.name} {t.dtype} {shape_words(t.shape)}") for t in tensors)
