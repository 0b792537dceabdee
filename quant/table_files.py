"""Files of tables beside the graphs: written part by part, and mapped (docs/bundle.md, "Tables")."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import IntegrityError, StorageError
from quant.blocks import Packed
from quant.rows import Opened
from quant.tables import ByteRows, PlainRows, Table, look_up
from wire import tables as record
from wire.tables import file_bytes, parts_of

Array = NDArray[Any]


def in_memory(name: str, table: Table) -> Opened:
    """A table that is no file."""
    rows = len(table.values)
    return Opened(name, rows, look_up(table, np.zeros(0, np.int64)).shape[1], partial(look_up, table))


def open_table(table: record.Table, path: Path) -> Opened:
    """Map one file.

    Raises:
        StorageError: it cannot be read.
        IntegrityError: it is not as long as its table.
    """
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
    rows = _built(table, arrays)
    shape = (table.rows, table.columns)
    return Opened(table.weight, *shape, partial(look_up, rows), lambda: mapped.madvise(mmap.MADV_DONTNEED))


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
