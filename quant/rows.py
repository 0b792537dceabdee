"""Tables beside the graphs: written into files, mapped, and read by rows into the inputs that graphs take.

Boards and the exporter make those inputs here, and nowhere else. A mapped row costs the pages that it lies in, which
are clean: the system takes them back when it needs them, and they are given back after every few rows anyway, so that
a process does not seem to grow by a table that it has walked through.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError, StorageError
from quant.blocks import Packed
from quant.matrix import Float32
from quant.tables import ByteRows, PlainRows, Table, look_up
from wire import tables as record
from wire.tables import file_bytes, parts_of

Array = NDArray[Any]
# where the file lies in memory, a fault maps half a MiB of it around a row: this many rows, 2 MiB at most
ROWS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A table that can be read, and what gives its pages back."""

    name: str
    table: Table
    let_go: Callable[[], None] = lambda: None

    def look_up(self, ids: Array) -> Float32:
        """float32 [*ids.shape, columns], a few rows at a time.

        Raises:
            BadData: ids are no whole numbers, or one is not the number of a row.
        """
        flat = ids.reshape(-1)
        out: list[Float32] = []
        try:
            for start in range(0, max(1, len(flat)), ROWS_AT_ONCE):
                out.append(look_up(self.table, flat[start : start + ROWS_AT_ONCE]))
                self.let_go()
        except ValueError as problem:
            raise BadData(f"{problem} ({self.name}); feed ids that the model knows") from problem
        rows = out[0] if len(out) == 1 else np.concatenate(out)
        return rows.reshape(*ids.shape, rows.shape[-1])


class Tables:
    """Every table of a model, by the inputs of graphs that are rows of it.

    Args:
        lookups: the model's input of ids and the table, by the input that is rows.
    """

    def __init__(self, lookups: Mapping[str, tuple[str, Opened]] | None = None) -> None:
        self._lookups = {} if lookups is None else dict(lookups)

    def behind(self, names: Iterable[str]) -> set[str]:
        """Inputs of ids that are needed to make some inputs of graphs.

        >>> Tables({"rows": ("ids", Opened("w", PlainRows(np.eye(2, dtype=np.float32))))}).behind(["rows", "mask"])
        {'ids'}
        """
        return {self._lookups[name][0] for name in names if name in self._lookups}

    def counts(self) -> dict[str, int]:
        """Rows of its table, by the input that is rows."""
        return {name: len(opened.table.values) for name, (_, opened) in self._lookups.items()}

    def complete(self, values: Mapping[str, Array], shapes: Mapping[str, Sequence[object]]) -> dict[str, Array]:
        """What is rows of a table among a graph's inputs, made from ids; nothing else.

        Args:
            values: what is fed, with ids.
            shapes: of the graph's inputs, by name.

        Returns:
            float32 by name, for every input whose ids are in `values` and that is not in `values` itself.

        Raises:
            BadData: ids are no whole numbers, one is not the number of a row, or there are not as many as the graph
                takes.

        >>> rows = Tables({"rows": ("ids", Opened("w", PlainRows(np.eye(2, dtype=np.float32))))})
        >>> rows.complete({"ids": np.array([[1]])}, {"rows": (1, 2), "mask": (1, 1)})["rows"].tolist()
        [[0.0, 1.0]]
        """
        made: dict[str, Array] = {}
        for name in self._lookups.keys() & shapes.keys() - values.keys():
            ids, opened = self._lookups[name]
            if ids not in values:
                continue
            rows = opened.look_up(np.asarray(values[ids]))
            shape = tuple(dim for dim in shapes[name] if isinstance(dim, int))
            if len(shape) == len(shapes[name]) and rows.size != np.prod(shape, dtype=np.int64):
                count = int(np.prod(shape[:-1], dtype=np.int64))
                raise BadData(f"expected {count} numbers in {ids}, found {np.asarray(values[ids]).size}")
            made[name] = rows.reshape(shape) if len(shape) == len(shapes[name]) else rows
        return made


def open_tables(tables: Collection[record.Table], locate: Callable[[str], Path]) -> Tables:
    """Map the files of a manifest's tables.

    Args:
        tables: of the manifest.
        locate: the path of a file of the bundle.

    Raises:
        StorageError: a file cannot be read.
        IntegrityError: it is not as long as its table.
    """
    lookups: dict[str, tuple[str, Opened]] = {}
    for table in tables:
        opened = open_table(table, locate(table.file))
        lookups |= {lookup.input: (lookup.ids, opened) for lookup in table.lookups}
    return Tables(lookups)


def open_table(table: record.Table, path: Path) -> Opened:
    """Map one file; raises as `open_tables`."""
    size = file_bytes(table)
    try:
        with path.open("rb") as file:
            found = file.seek(0, 2)
            if found != size:
                raise IntegrityError(
                    f"expected a table of {size} bytes in {path.name}, found {found}; fetch or export the bundle again"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StorageError(
            f"expected a table at {path}, found none that can be read ({error.strerror or error}); check the path"
        ) from error
    mapped.madvise(mmap.MADV_RANDOM)  # rows are not neighbours: nothing is read ahead
    arrays: dict[str, Array] = {
        part.name: np.ndarray(part.shape, np.dtype(part.dtype).newbyteorder("<"), mapped, part.offset)
        for part in parts_of(table)
    }
    return Opened(table.weight, _built(table, arrays), lambda: mapped.madvise(mmap.MADV_DONTNEED))


def _built(table: record.Table, arrays: Mapping[str, Array]) -> Table:
    if table.bits == 32:
        return PlainRows(arrays["values"])
    if table.bits == 8:
        return ByteRows(arrays["values"], arrays["scales"])
    return Packed(arrays["values"], arrays["scales"], arrays.get("zero_points"), table.bits)


def write_table(table: record.Table, rows: Table, file: IO[bytes]) -> None:
    """Write the arrays of a table, each at its place (docs/bundle.md, "Tables")."""
    for part in parts_of(table):
        file.write(b"\0" * (part.offset - file.tell()))
        array = getattr(rows, part.name)
        file.write(np.ascontiguousarray(array, np.dtype(part.dtype).newbyteorder("<")).data)
