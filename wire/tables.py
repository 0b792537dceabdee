"""Embedding tables beside the graphs: files that are read by rows, as a manifest describes them (docs/bundle.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from wire.record import at_least

if TYPE_CHECKING:  # the manifest holds these records
    from wire.manifest import Manifest

PAGE_BYTES = 4096  # every part begins where a page may begin
BITS = (4, 8, 32)
BLOCKS = (16, 32, 64, 128)
ID_TYPES = {"int32", "int64"}


@dataclass(frozen=True)
class Lookup:
    """A graph input that is rows of a table: those that `ids`, an input of the model, names."""

    input: str
    ids: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table [rows, columns] in a file of its own.

    Attributes:
        weight: what it is called in the model.
        file: of the bundle.
        rows: as many as there are tokens.
        columns: of a row.
        bits: 32: float32; 8: int8 with a scale per row; 4: with a scale per block of a row.
        block: columns that share a scale, of 4 bits; else 0.
        symmetric: of 4 bits: without zero points.
        lookups: where its rows are read.
    """

    weight: str
    file: str
    rows: int = field(metadata=at_least(1))
    columns: int = field(metadata=at_least(1))
    bits: int = field(metadata=at_least(4, 32))
    lookups: tuple[Lookup, ...]
    block: int = field(default=0, metadata=at_least(0))
    symmetric: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """In words."""
        return {32: "fp32 rows", 8: "int8 rows"}.get(self.bits, f"int4 blocks of {self.block}")


@dataclass(frozen=True)
class Part:
    """An array of a table's file: little-endian, in C order. Its first axis is the table's rows."""

    name: Literal["values", "scales", "zero_points"]
    dtype: Literal["float32", "int8", "uint8"]
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        """Its length."""
        return prod(self.shape) * (4 if self.dtype == "float32" else 1)


def parts_of(table: Table) -> tuple[Part, ...]:
    """The arrays of a table's file, in order.

    >>> t = Table("w", "w.bin", 10, 64, 4, (), 32, symmetric=False)
    >>> [(p.name, p.shape, p.offset) for p in parts_of(t)], file_bytes(t)
    ([('values', (10, 2, 16), 0), ('scales', (10, 2), 4096), ('zero_points', (10, 1), 8192)], 8202)
    """
    out: list[Part] = []
    for name, dtype, shape in _arrays(table):
        end = out[-1].offset + out[-1].bytes if out else 0
        out.append(Part(name, dtype, (table.rows, *shape), end + -end % PAGE_BYTES))
    return tuple(out)


def _arrays(
    t: Table,
) -> Iterator[tuple[Literal["values", "scales", "zero_points"], Literal["float32", "int8", "uint8"], tuple[int, ...]]]:
    """Name, type and the shape of one row of each array."""
    if t.bits == 32:
        yield "values", "float32", (t.columns,)
    elif t.bits == 8:
        yield "values", "int8", (t.columns,)
        yield "scales", "float32", ()
    else:
        blocks = t.columns // t.block
        yield "values", "uint8", (blocks, t.block // 2)
        yield "scales", "float32", (blocks,)
        if not t.symmetric:
            yield "zero_points", "uint8", (-(-blocks // 2),)


def file_bytes(table: Table) -> int:
    """How long its file is; there is nothing behind the last part."""
    last = parts_of(table)[-1]
    return last.offset + last.bytes


def table_problems(m: Manifest) -> list[str]:
    """What a manifest says of its tables that cannot be true."""
    sizes = {file.path: file.bytes for file in m.files}
    inputs = [lookup.input for table in m.tables for lookup in table.lookups]
    problems = [f"two lookups give {name!r}" for name in dict.fromkeys(inputs) if inputs.count(name) > 1]
    problems += [f"{t.name!r} is fed, and rows of a table as well" for t in m.inputs if t.name in inputs]
    for table in m.tables:
        wrong = _impossible(table)
        problems += [f"table {table.weight} {words}" for words in wrong]
        if table.file not in sizes:
            problems.append(f"table {table.weight} names file {table.file!r}, which is not listed")
        elif not wrong and sizes[table.file] != file_bytes(table):
            problems.append(
                f"table {table.weight} of {table.rows} x {table.columns} in {table.format} has {file_bytes(table)} "
                f"bytes, where {table.file} has {sizes[table.file]}"
            )
        problems += [f"table {table.weight} {words}" for lookup in table.lookups for words in _unread(m, table, lookup)]
    return problems


def _impossible(table: Table) -> list[str]:
    if table.bits not in BITS:
        return [f"has {table.bits} bits, which none has; {', '.join(map(str, BITS))} are known"]
    if table.bits != 4:
        return [f"has blocks of {table.block}, which only 4 bits have"] if table.block else []
    if table.block not in BLOCKS or table.columns % table.block:
        return [f"has blocks of {table.block} in {table.columns} columns"]
    return []


def _unread(m: Manifest, table: Table, lookup: Lookup) -> list[str]:
    """Rows that no graph takes as they are made, and ids that nobody feeds."""
    ids = {t.name: t for t in m.inputs}.get(lookup.ids)
    problems = []
    if ids is None:
        problems.append(f"reads rows by {lookup.ids!r}, which is no input of the model")
    elif ids.dtype not in ID_TYPES:
        problems.append(f"reads rows by {lookup.ids!r}, which is {ids.dtype}")
    taken = [
        (f"{s.name}.{g.kind}", t) for s in m.segments for g in s.graphs for t in g.inputs if t.name == lookup.input
    ]
    if not taken:
        problems.append(f"gives {lookup.input!r}, which no graph takes")
    problems += [
        f"gives {lookup.input!r} as float32 [..., {table.columns}], where {where} takes {t.dtype} {list(t.shape)}"
        for where, t in taken
        if t.dtype != "float32" or not t.shape or t.shape[-1] != table.columns
    ]
    return problems
