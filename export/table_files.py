"""Files of the tables that are out of the graph, in the format that goes with a board's weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from console.errors import UnsupportedModel
from export.formats.report import WeightReport
from export.mapped import reading
from export.tables_out import Source
from export.write import storing
from quant.loss import error
from quant.rows import Tables, open_tables
from quant.table_files import write_table
from quant.tables import PlainRows, look_up, quantize_table
from wire.tables import Table

BLOCK = 32
FOUR_BITS = ("int4", "nf4", "fp4")
PLAIN = ("fp32", "fp16")


@dataclass(frozen=True)
class TableFile:
    """A table as a board gets it."""

    record: Table
    path: Path
    report: WeightReport


def table_of(source: Source, quant: str, index: int = 0) -> Table:
    """What a table becomes beside weights of a format: the record, whose file is not made yet.

    float32 stays with float32 and float16; 4 bits come in blocks, if these divide the columns; else 8 bits, a scale
    per row. `index` is among the tables of the model, whose names no file can have.
    """
    rows, columns = (int(n) for n in source.tensor.shape.numpy())
    bits = 32 if quant in PLAIN else 4 if quant in FOUR_BITS and columns % BLOCK == 0 else 8
    block = BLOCK if bits == 4 else 0
    name = f"table{index}.{bits}bit.bin"
    # zero points gain two decibels for an eighth of a bit
    return Table(source.weight, name, rows, columns, bits, source.lookups, block, symmetric=not block)


def kept_tables(
    sources: Sequence[Source], keep: Mapping[str, str], weights: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Formats that `--keep` fixes, of tables by name, and of what stays in the graph by pattern.

    Args:
        sources: the tables.
        keep: format by pattern; the last one that matches decides.
        weights: names of what stays; a pattern that matches tables only is none for these.
    """
    tables, inside = dict[str, str](), dict[str, str]()
    for pattern, fmt in keep.items():
        own = [source.weight for source in sources if fnmatchcase(source.weight, pattern)]
        tables |= dict.fromkeys(own, fmt)
        if not own or any(fnmatchcase(name, pattern) for name in weights):
            inside[pattern] = fmt
    return tables, inside


def write_tables(
    sources: Sequence[Source], quant: str, kept: Mapping[str, str], folder: Path, made: dict[str, TableFile]
) -> list[TableFile]:
    """Write the tables of a model.

    Args:
        sources: the tables.
        quant: format of the weights beside them.
        kept: formats of tables that have one of their own, by name.
        folder: where files go that are not made yet.
        made: files by name, which all stages of an export share.

    Raises:
        UnsupportedModel: a table holds NaN or infinity.
        StorageError: the folder cannot be written.
    """
    out = []
    for index, source in enumerate(sources):
        table = table_of(source, kept.get(source.weight, quant), index)
        if table.file not in made:
            made[table.file] = _written(source, table, folder / table.file)
        # lookups are those of this source: another micro-batch has the same
        out.append(replace(made[table.file], record=table))
    return out


def _written(source: Source, table: Table, path: Path) -> TableFile:
    with reading(source.tensor) as held:
        weight = np.asarray(held, np.float32)
        try:
            rows = quantize_table(weight, table.bits, table.block or BLOCK, table.symmetric)
        except ValueError as problem:
            raise UnsupportedModel(f"cannot quantize the table {source.weight}: {problem}") from problem
        lost = None if isinstance(rows, PlainRows) else error(weight, look_up(rows, np.arange(table.rows)))
        with storing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                write_table(table, rows, file)
        report = WeightReport(
            source.weight,
            f"{table.format}, out",
            weight.nbytes,
            path.stat().st_size,
            None if lost is None else lost.relative,
            None if lost is None else lost.sqnr_db,
        )
    return TableFile(table, path, report)


def opened(files: Sequence[TableFile]) -> Tables:
    """Their rows, as a board reads them."""
    paths = {file.record.file: file.path for file in files}
    return open_tables([file.record for file in files], paths.__getitem__)


def read_by(files: Sequence[TableFile], inputs: Collection[str]) -> list[TableFile]:
    """Those whose rows are among some inputs, with the lookups that are."""
    out = []
    for file in files:
        lookups = tuple(lookup for lookup in file.record.lookups if lookup.input in inputs)
        if lookups:
            out.append(replace(file, record=replace(file.record, lookups=lookups)))
    return out
