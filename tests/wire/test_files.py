"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from console.errors import StorageError
from wire.files import write_atomic


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "folder"])
def test_only_a_file_is_replaced(tmp_path: Path, kind: str) -> None:
    """What is no file, as /dev/null and /dev/stdout, is refused and stays, with nothing left beside it."""
    path = tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        if kind == "pipe":
            (tmp_path / "pipe").rename(path)
        else:
            path.symlink_to("pipe")
    before = {one.name: stat.S_IFMT(one.lstat().st_mode) for one in tmp_path.iterdir()}

    with pytest.raises(StorageError, match=r"expected a file or nothing at .*there, found something else"):
        write_atomic(path, b"bytes")

    assert {one.name: stat.S_IFMT(one.lstat().st_mode) for one in tmp_path.iterdir()} == before


def test_a_link_to_a_file_and_one_to_nothing_are_replaced(tmp_path: Path) -> None:
    """Links that lead to no device go, as files do; what they led to is not touched."""
    (tmp_path / "old").write_bytes(b"old")
    for name, to in (("whole", "old"), ("broken", "nowhere")):
        (tmp_path / name).symlink_to(to)
        write_atomic(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "old").read_bytes() == b"old"
