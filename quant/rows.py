"""Tables beside the graphs: read by rows into the inputs that graphs take.

Boards and the exporter make those inputs here, and nowhere else. A mapped row costs the pages that it lies in, which
are clean: the system takes them back when it needs them, and they are given back after every few rows anyway, so that
a process does not seem to grow by a table that it has walked through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.tables import Table

Array = NDArray[Any]
Float32 = NDArray[np.float32]
# where the file lies in memory, a fault maps half a MiB of it around a row: this many rows, 2 MiB at most
ROWS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A table that can be read.

    Attributes:
        name: of the weight.
        rows: how many there are.
        columns: of each.
        read: rows by number, float32 [n, columns]; raises ValueError for what is no number of a row.
        let_go: gives the pages back that were read.
    """

    name: str
    rows: int
    columns: int
    read: Callable[[Array], Float32]
    let_go: Callable[[], None] = lambda: None

    def look_up(self, ids: Array) -> Float32:
        """float32 [*ids.shape, columns]: each row is read once, a few at a time, in the order of the file.

        Raises:
            BadData: ids are no whole numbers, or one is not the number of a row.
        """
        wanted, places = np.unique(ids.reshape(-1), return_inverse=True)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=len(wanted)))
        out, done = np.empty((ids.size, self.columns), np.float32), 0
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            try:
                rows = self.read(wanted[start : start + ROWS_AT_ONCE])
            except ValueError as problem:
                raise BadData(f"{problem} ({self.name}); feed ids that the model knows") from problem
            here = order[done : ends[start + len(rows) - 1]]
            out[here] = rows[places[here] - start]
            done += len(here)
            self.let_go()
        return out.reshape(*ids.shape, self.columns)


class Tables:
    """Every table of a model, by the inputs of graphs that are rows of it.

    Args:
        lookups: the model's input of ids and the table, by the input that is rows.
    """

    def __init__(self, lookups: Mapping[str, tuple[str, Opened]] | None = None) -> None:
        self._lookups = {} if lookups is None else dict(lookups)

    def behind(self, names: Iterable[str]) -> set[str]:
        """Inputs of ids that are needed to make some inputs of graphs.

        >>> one = Opened("w", 2, 2, np.eye(2, dtype=np.float32).__getitem__)
        >>> Tables({"rows": ("ids", one)}).behind(["rows", "mask"])
        {'ids'}
        """
        return {self._lookups[name][0] for name in names if name in self._lookups}

    def counts(self) -> dict[str, int]:
        """Rows of its table, by the input that is rows."""
        return {name: opened.rows for name, (_, opened) in self._lookups.items()}

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

        >>> tables = Tables({"rows": ("ids", Opened("w", 2, 2, np.eye(2, dtype=np.float32).__getitem__))})
        >>> tables.complete({"ids": np.array([[1]])}, {"rows": (1, 2), "mask": (1, 1)})["rows"].tolist()
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


def open_tables(tables: Collection[Table], locate: Callable[[str], Path]) -> Tables:
    """Map the files of a manifest's tables.

    Args:
        tables: of the manifest.
        locate: the path of a file of the bundle.

    Raises:
        StorageError: a file cannot be read.
        IntegrityError: it is not as long as its table.
    """
    if not tables:
        return Tables()
    # a worker without tables does not load what reads them
    from quant.table_files import open_table

    lookups: dict[str, tuple[str, Opened]] = {}
    for table in tables:
        opened = open_table(table, locate(table.file))
        lookups |= {lookup.input: (lookup.ids, opened) for lookup in table.lookups}
    return Tables(lookups)
