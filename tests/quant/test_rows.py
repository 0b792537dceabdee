"""Tables in files: mapped, they give the rows that they give in memory; what they cost, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData, IntegrityError, StorageError
from quant.rows import ROWS_AT_ONCE, open_tables
from quant.table_files import open_table, write_table
from quant.tables import look_up, quantize_table
from tests.quant.nodes import gaussian
from wire.tables import Lookup, Table, file_bytes

COUNT, COLUMNS = 70, 96
FORMATS = [(32, 0, True), (8, 0, True), (4, 32, True), (4, 32, False)]


def written(path: Path, bits: int, block: int, symmetric: bool) -> Table:
    """The record of a table that lies at `path`."""
    table = Table("w", path.name, COUNT, COLUMNS, bits, (Lookup("rows", "ids"),), block, symmetric)
    rows = quantize_table(gaussian(COUNT, COLUMNS), bits, block or 32, symmetric)
    with path.open("wb") as file:
        write_table(table, rows, file)
    return table


@pytest.mark.parametrize(("bits", "block", "symmetric"), FORMATS)
def test_a_file_gives_the_rows_that_went_in(bits: int, block: int, symmetric: bool, tmp_path: Path) -> None:
    """Every row of every format, in any order and more than are read at once, as without a file."""
    table = written(tmp_path / "w.bin", bits, block, symmetric)
    assert (tmp_path / "w.bin").stat().st_size == file_bytes(table)
    ids = np.random.default_rng(1).permutation(COUNT)[: 2 * (ROWS_AT_ONCE + 1)].reshape(2, -1)
    expected = look_up(quantize_table(gaussian(COUNT, COLUMNS), bits, block or 32, symmetric), ids)
    np.testing.assert_array_equal(open_table(table, tmp_path / "w.bin").look_up(ids), expected)
    if bits == 32:
        np.testing.assert_array_equal(expected, gaussian(COUNT, COLUMNS)[ids])


def test_only_what_a_graph_takes_is_made(tmp_path: Path) -> None:
    """Rows come in the graph's shape, and neither where they are fed, nor without ids, nor for other inputs."""
    table = written(tmp_path / "w.bin", 8, 0, True)
    tables = open_tables([table], lambda name: tmp_path / name)
    ids = np.arange(6).reshape(2, 3)
    made = tables.complete({"ids": ids}, {"rows": (6, COLUMNS), "mask": (2, 3)})
    assert {name: rows.shape for name, rows in made.items()} == {"rows": (6, COLUMNS)}
    assert tables.complete({"ids": ids, "rows": made["rows"]}, {"rows": (6, COLUMNS)}) == {}
    assert tables.complete({"ids": ids}, {"mask": (2, 3)}) == {}
    assert tables.complete({"mask": ids}, {"rows": (6, COLUMNS)}) == {}
    empty = tables.complete({"ids": ids[:0]}, {"rows": (0, COLUMNS)})
    assert empty["rows"].shape == (0, COLUMNS)
    assert tables.behind(["rows", "mask"]) == {"ids"}


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.array([[0, COUNT]]), rf"rows 0 to {COUNT - 1} of the table, found {COUNT} \(w\); feed ids that the model"),
        (np.array([[-1, 0]]), "found -1"),
        (np.array([[0.5, 0.0]]), "rows by whole numbers, found float64"),
        (np.array([[1, 2, 3]]), "expected 2 numbers in ids, found 3"),
    ],
)
def test_ids_that_are_no_rows_are_refused(ids: np.ndarray, words: str, tmp_path: Path) -> None:
    """Ids beyond the table, below it, broken or too many end in a sentence."""
    tables = open_tables([written(tmp_path / "w.bin", 8, 0, True)], lambda name: tmp_path / name)
    with pytest.raises(BadData, match=words):
        tables.complete({"ids": ids}, {"rows": (1, 2, COLUMNS)})


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    """A byte too few, a byte too many, nothing at all, no file: each is said before anything is mapped."""
    path = tmp_path / "w.bin"
    table = written(path, 8, 0, True)
    data = path.read_bytes()
    for found in (data[:-1], data + b"x", b""):
        path.write_bytes(found)
        with pytest.raises(IntegrityError, match=f"a table of {len(data)} bytes in w.bin, found {len(found)}"):
            open_table(table, path)
    path.unlink()
    with pytest.raises(StorageError, match="expected a table at .*w.bin, found none that can be read"):
        open_table(table, path)


CHILD = """
import sys
import numpy as np
from pathlib import Path
from quant.table_files import open_table
from wire.tables import Table, file_bytes

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10

rows, columns, path = 131072, 512, Path(sys.argv[1])
table = Table("w", "w.bin", rows, columns, 8, ())
opened = open_table(table, path)
opened.look_up(np.random.default_rng(1).integers(0, rows, 512))  # what the first one loads is not the table's
before = [status(name) for name in ("RssAnon", "RssFile")]
for seed in range(40):
    opened.look_up(np.random.default_rng(seed).integers(0, rows, 512))
print(file_bytes(table), *(status(name) - old for name, old in zip(("RssAnon", "RssFile"), before)))
Path("/proc/self/clear_refs").write_text("5")
held = status("VmRSS")
opened.look_up(np.random.default_rng(99).integers(0, rows, 512))
print(status("VmHWM") - held)
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process takes")
def test_a_table_that_was_walked_through_is_not_held(tmp_path: Path) -> None:
    """20,000 rows all over 64 MiB: neither anonymous memory nor mapped pages grow by it, and no look-up peaks so."""
    path = tmp_path / "w.bin"
    with path.open("wb") as file:
        block = np.random.default_rng(2).integers(-127, 128, (1024, 512), dtype=np.int8)
        for _ in range(128):
            file.write(block.tobytes())
        file.write(np.ones(131072, np.float32).tobytes())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    size, anonymous, mapped, peak = map(int, done.stdout.split())
    assert size > 64 << 20
    assert anonymous < 2 << 20
    assert mapped < 2 << 20
    assert peak < 4 << 20
