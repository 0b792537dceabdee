"""What a bundle holds as tables: the terminal and the page show the same rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from console.table import mib, shown, size
from export.report.account import Account
from export.report.edges import Edge
from export.report.facts import Stayed, shape_words
from export.report.variant_tables import variant_tables
from wire.manifest import Slot
from wire.tables import file_bytes

Table = tuple[str, list[str], list[list[object]]]  # title, header, rows

MANY, FEW = 12, 4  # names in one line
BOARDS = ["board", "segments", "crosses", "batch", "rank", "budget", "predicted", "measured", "files"]
SEGMENTS = ["segment", "graphs", "boundary in", "weights", "slots"]
TENSORS = ["tensor", "type", "shape", "bytes", "from", "to"]
GRAPHS = ["segment", "graph", "bucket", "predicted", "measured", "miss", "anonymous", "PSS", "step", "options"]
FORMATS = ["format", "weights", "before", "after", "worst error"]
STAYED = ["because", "weights", "bytes", "which"]
TIED = ["weight", "segments", "one copy", "counted again"]
OUT = ["table", "rows x columns", "format", "bytes", "by", "file"]
STAYED_IN = ["table", "because"]
SLOTS = ["slot", "module", "kind", "in x out", "segment"]


def tables(account: Account) -> list[Table]:
    """Every table of one bundle that has a row, without columns that say nothing."""
    told: list[Table] = [
        ("segments", SEGMENTS, segment_rows(account)),
        ("cuts, inputs and outputs of one run of a micro-batch", TENSORS, tensor_rows(account)),
        (f"graphs, each in a fresh process{_machine(account)}", GRAPHS, graph_rows(account)),
        ("weights", FORMATS, format_rows(account)),
        ("stayed in fp32", STAYED, stayed_rows(account.stayed)),
        ("in another format than asked for", STAYED, stayed_rows(account.instead)),
        *variant_tables(account.found.variant, account.manifest.labels),
        ("tied weights, a copy in each segment", TIED, tied_rows(account)),
        ("tables out of the graph, read by rows", OUT, out_rows(account)),
        ("tables that stay in the graph", STAYED_IN, [[t.weight, t.reason] for t in account.found.tables_in]),
        ("slots", SLOTS, slot_rows(account)),
    ]
    return [(title, *without_empty(header, rows)) for title, header, rows in told if rows]


def without_empty(header: list[str], rows: list[list[object]]) -> tuple[list[str], list[list[object]]]:
    """A table without the columns that hold nothing in any row.

    >>> without_empty(["a", "b"], [[1, "-"], [2, "-"]])
    (['a'], [[1], [2]])
    """
    kept = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def board_rows(told: Sequence[Account]) -> list[list[object]]:
    """A row per board; `crosses` is the sum of all boundaries of one run of a micro-batch."""
    return [
        [
            a.memory.device,
            len(a.segments),
            size(a.crossing_bytes),
            a.manifest.plan.micro_batch,
            a.manifest.plan.rank,
            mib(a.memory.budget_bytes),
            mib(a.memory.predicted_bytes),
            mib(a.memory.measured_bytes),
            mib(a.file_bytes),
        ]
        for a in told
    ]


def segment_rows(account: Account) -> list[list[object]]:
    """A row per segment; `boundary in` is what arrives from the segment before in one run."""
    return [
        [s.name, ", ".join(s.kinds), size(s.crossing_bytes), size(s.weight_bytes), s.slots] for s in account.segments
    ]


def tensor_rows(account: Account) -> list[list[object]]:
    """A row per tensor that enters, leaves or crosses; many states of one kind, as caches are, share a row."""
    rows: list[list[object]] = []
    for _, group in itertools.groupby(account.edges, key=_kind_of_state):
        alike = list(group)
        rows += [_states(alike)] if len(alike) > FEW else [_tensor(edge) for edge in alike]
    return rows


def _kind_of_state(edge: Edge) -> object:
    """What states have in common that share a row; what is no state shares none."""
    value = edge.value
    return (value.dtype, value.shape, edge.source, edge.targets) if value.origin == "state" else value.name


def _tensor(edge: Edge) -> list[object]:
    value, known = edge.value, bool(edge.value.dtype)
    shape = shape_words(value.shape) if known else "-"
    return [
        value.name,
        value.dtype or "-",
        shape,
        size(value.bytes) if known else "-",
        edge.source,
        few(edge.targets, FEW),
    ]


def _states(edges: Sequence[Edge]) -> list[object]:
    first, total = _tensor(edges[0]), sum(edge.value.bytes or 0 for edge in edges)
    name = f"{edges[0].value.name} to {edges[-1].value.name}"
    return [name, first[1], f"{len(edges)} x {first[2]}", size(total), *first[4:]]


def graph_rows(account: Account) -> list[list[object]]:
    """A row per graph; `miss` is measured less predicted."""
    return [
        [
            g.segment,
            g.kind,
            g.bucket,
            mib(g.predicted_bytes),
            mib(g.measured_bytes),
            "-" if g.miss_bytes is None else f"{'+' if g.miss_bytes >= 0 else ''}{mib(g.miss_bytes)}",
            mib(g.anonymous_bytes),
            mib(g.pss_bytes),
            "-" if g.step_s is None else f"{g.step_s * 1e3:.1f} ms",
            g.options,
        ]
        for g in account.memory.graphs
    ]


def format_rows(account: Account) -> list[list[object]]:
    """A row per number format."""
    return [
        [
            row.format,
            row.weights,
            size(row.bytes_before),
            size(row.bytes_after),
            "-" if row.worst_relative_error is None else f"{row.worst_relative_error:.2g}",
        ]
        for row in account.formats
    ]


def stayed_rows(stayed: Sequence[Stayed]) -> list[list[object]]:
    """A row per reason for which weights have not what was asked for."""
    return [[row.reason, row.weights, size(row.bytes), few(row.names, FEW)] for row in stayed]


def tied_rows(account: Account) -> list[list[object]]:
    """A row per weight that several segments hold."""
    return [
        [t.weight, few(t.segments), size(t.bytes), size(t.bytes * (len(t.segments) - 1))] for t in account.found.tied
    ]


def out_rows(account: Account) -> list[list[object]]:
    """A row per table that is a file; `by` are the model's inputs of ids."""
    return [
        [
            t.weight,
            f"{t.rows} x {t.columns}",
            t.format,
            size(file_bytes(t)),
            few(dict.fromkeys(lookup.ids for lookup in t.lookups)),
            t.file,
        ]
        for t in account.manifest.tables
    ]


def slot_rows(account: Account) -> list[list[object]]:
    """A row per slot; its name only where that is not its module's path."""
    return [
        ["-" if s.name == s.module else s.name, s.module, s.kind, _shape(s), s.segment] for s in account.manifest.slots
    ]


def _shape(slot: Slot) -> str:
    """What a slot changes: a matrix, or a vector."""
    return str(slot.features_out) if slot.kind == "bias" else f"{slot.features_in} x {slot.features_out}"


def few(names: Iterable[object], limit: int = MANY) -> str:
    """Some names, and how many more.

    >>> few(["a", "b", "c"], 2)
    'a, b, and 1 more'
    """
    listed = [shown(name) for name in names]
    more = [f"and {len(listed) - limit} more"] if len(listed) > limit else []
    return ", ".join([*listed[:limit], *more])


def _machine(account: Account) -> str:
    machines = dict.fromkeys(g.machine for g in account.memory.graphs if g.machine)
    return f" on {'; '.join(map(shown, machines))}" if machines else ""
