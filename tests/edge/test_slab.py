"""Rows on disk: bounded, whole or not there, whatever happens to the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.slab import Slab
from tests.conftest import ROOT
from tests.edge.test_disk import every_kill

ROW = 50
HEAD = 4096 + 256 * 48


def key(number: int) -> bytes:
    """A key."""
    return number.to_bytes(32, "big")


def row(number: int) -> bytes:
    """What belongs to it."""
    return bytes([number % 256]) * ROW


def opened(path: Path, rows: int = 3, label: str = "rows") -> Slab:
    """A slab with room for some rows."""
    slab = Slab(path, HEAD + rows * ROW)
    slab.begin(label, ROW)
    return slab


def reopened(slab: Slab, **other: object) -> Slab:
    """The same file after its owner has gone."""
    slab.close()
    return opened(slab.path, **other)  # type: ignore[arg-type]  # a number or a label


def test_what_is_put_is_found_until_it_is_for_something_else(tmp_path: Path) -> None:
    """Rows are found, also after a restart; with another label there are none, and afterwards none of the old."""
    slab = opened(tmp_path / "slab")
    assert [slab.put(key(k), row(k)) for k in (1, 2)] == [True, True]
    slab = reopened(slab)
    assert [slab.get(key(k)) for k in (1, 2, 3)] == [row(1), row(2), None]
    assert (slab.hits, slab.misses, slab.rows) == (2, 1, 2)

    slab = reopened(slab, label="other")
    assert (slab.get(key(1)), slab.rows) == (None, 0)
    slab = reopened(slab)
    assert slab.get(key(1)) is None


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 700), row_bytes=st.integers(1, 9000), rest=st.integers(0, 200_000))
def test_the_file_never_exceeds_its_quota(
    tmp_path_factory: pytest.TempPathFactory, rows: int, row_bytes: int, rest: int
) -> None:
    """However large rows are: what fits is taken, one row more would be too much, and no row lies over another."""
    slab = Slab(tmp_path_factory.mktemp("slab") / "slab", HEAD + rest)
    if not slab.begin("rows", row_bytes):
        assert rest < row_bytes
        return
    taken = [slab.put(key(k), bytes([k % 251]) * row_bytes) for k in range(1, rows)]
    assert slab.file_bytes <= HEAD + rest
    assert sum(taken) == min(slab.capacity, len(taken))
    assert all(slab.get(key(k)) == bytes([k % 251]) * row_bytes for k, was in enumerate(taken, 1) if was)
    past = slab.capacity
    assert slab._row_at(past) + row_bytes > HEAD + rest
    slab.close()


def test_a_smaller_quota_keeps_what_fits(tmp_path: Path) -> None:
    """The file shrinks to a smaller quota and keeps its first rows; a larger one takes more."""
    slab = opened(tmp_path / "slab", rows=3)
    for k in (1, 2, 3):
        slab.put(key(k), row(k))
    slab = reopened(slab, rows=2)
    assert slab.file_bytes == HEAD + 2 * ROW
    assert [slab.get(key(k)) for k in (1, 2, 3)] == [row(1), row(2), None]
    slab = reopened(slab, rows=4)
    assert [slab.put(key(k), row(k)) for k in (4, 5, 6)] == [True, True, False]


def test_cyclic_passes_find_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    """Of five rows in turn three stay for good: the least recently used would find none."""
    slab = opened(tmp_path / "slab")
    for _ in range(4):
        for k in range(1, 6):
            if slab.get(key(k)) is None:
                slab.put(key(k), row(k))
    assert (slab.hits, slab.misses) == (9, 11)


def test_rows_that_nobody_asks_for_any_more_make_room(tmp_path: Path) -> None:
    """Old data fill the file; new rows take their places once they are wanted a second time, used ones stay."""
    slab = opened(tmp_path / "slab")
    for k in (1, 2, 3):
        slab.put(key(k), row(k))
    slab = reopened(slab)
    assert slab.get(key(2)) == row(2)
    assert [slab.put(key(k), row(k)) for k in (7, 8, 7, 8, 9, 9)] == [False, False, True, True, False, False]
    assert [slab.get(key(k)) for k in (2, 7, 8)] == [row(2), row(7), row(8)]
    assert reopened(slab).rows == 3


@pytest.mark.parametrize("at", [HEAD + ROW + 7, 4096 + 48 + 3, 4096 + 48 + 40], ids=["row", "key", "digest"])
def test_a_changed_byte_costs_its_row_alone(tmp_path: Path, at: int) -> None:
    """A byte of a row, of its key or of its digest: the row is not found, can be put again, and others are whole."""
    slab = opened(tmp_path / "slab")
    for k in (1, 2, 3):
        slab.put(key(k), row(k))
    with slab.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    slab = reopened(slab)
    assert [slab.get(key(k)) for k in (1, 2, 3)] == [row(1), None, row(3)]
    slab.put(key(2), row(2))
    slab.put(key(2), row(2))  # a changed key is a row that nobody asks for
    assert slab.get(key(2)) == row(2)


def test_a_kill_at_any_write_leaves_whole_rows_or_none(tmp_path: Path) -> None:
    """Before each write and in its middle: what is found is right, what was said to be in is in, and it goes on."""
    left = every_kill("slab", tmp_path)

    assert len(left) > 12
    assert any(found["code"] == 9 for found in left)
    for found in left:
        assert all(found["found"].values())
        assert found["more"]
        assert found["bytes"] == HEAD + 200
        for number in "13":  # row 2 is on its way out for three of the steps
            assert number in found["found"] or f"put{number}" not in found["said"]
    assert any("2" in found["found"] for found in left)
    assert set(left[-1]["found"]) == {"1", "3"}


FULL = """
import resource, sys
from pathlib import Path
from tests.edge.test_slab import HEAD, ROW, Slab, key, row
limit = HEAD + 2 * ROW + 20
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
slab = Slab(Path(sys.argv[1]), HEAD + 100 * ROW)
slab.begin("rows", ROW)
print([slab.put(key(k), row(k)) for k in (1, 2, 3, 4)])
print([slab.get(key(k)) == row(k) for k in (1, 2, 3)], len(slab.said), slab.said[0])
"""


def python(code: str, *arguments: str) -> list[str]:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_a_full_disk_ends_admission_and_nothing_else(tmp_path: Path) -> None:
    """When the system takes no more bytes, rows that are in are found, one sentence says so, and nothing is raised."""
    said = python(FULL, str(tmp_path / "slab"))
    assert said[0] == "[True, True, False, False]"
    assert said[1].startswith("[True, True, False] 1 ")
    assert "takes no more rows (File too large): 2 are kept" in said[1]


SECOND = """
import sys
from pathlib import Path
from tests.edge.test_slab import key, opened, row
slab = opened(Path(sys.argv[1]), label=sys.argv[2])
print(slab.get(key(1)) == row(1), slab.put(key(2), row(2)), slab.said)
"""


def test_a_second_process_reads_and_writes_nothing(tmp_path: Path) -> None:
    """While one process has the file another finds its rows and adds none; for other rows it keeps nothing."""
    slab = opened(tmp_path / "slab")
    slab.put(key(1), row(1))
    before = slab.path.read_bytes()

    same, other = (python(SECOND, str(slab.path), label)[0] for label in ("rows", "other"))

    assert same.startswith("True False ['another process keeps rows in ")
    assert other.startswith("False False ")
    assert "for other rows: nothing is kept" in other
    assert slab.path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A folder in its place, or a link that leads elsewhere: a sentence, and nothing is found or written."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("folder", "link"):
        slab = opened(tmp_path / name)
        assert not slab.put(key(1), row(1))
        assert slab.get(key(1)) is None
        assert "nothing is kept" in slab.said[0]
    assert not (tmp_path / "elsewhere").exists()
    assert opened(tmp_path / "small", rows=0).said[0].endswith("hold no row of 50: nothing is kept")
